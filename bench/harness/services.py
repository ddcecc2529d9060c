"""Run a Kafka broker and a schema registry for a benchmark, as `k2 up` does."""

import asyncio
import os
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from aiohttp import web
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from bench.harness.processes import BenchFailed, cores, end, tree
from k2.cli.commands.doctor import java_and_jars
from k2.cli.embedded import broker, plan
from k2.cli.embedded.layout import Layout
from k2.cli.embedded.ports import HOST, free
from k2.cli.embedded.registry import application
from k2.cli.embedded.schema_store import SchemaStore
from k2.schemas import topics
from k2.schemas.feed.model import ExchangeFeed

_WITHIN: Final = 120.0

Result = TypeVar("Result")


class Services:
    """A broker and a registry with their addresses, and helpers for topics."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.port, self.registry_port = free(), free()
        self.bootstrap = f"{HOST}:{self.port}"
        self.platform = layout.platform(kafka_port=self.port, registry_port=self.registry_port)
        self.env = plan.environment(self.platform) | {"K2_LOG_LEVEL": "warning"}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="services", daemon=True)
        self._child: Any = None
        self._runner: web.AppRunner | None = None
        self._admin: AdminClient | None = None

    def start(self) -> None:
        """Start both and wait until they answer. Raises `BrokerFailed`."""
        self._thread.start()
        self._wait(self._start())

    def stop(self) -> None:
        """Stop both, and keep the folder."""
        if self._child is not None and self._child.process is not None:
            end(tree([self._child.process.pid]))
        self._wait(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def create_topic(self, name: str, partitions: int) -> None:
        """Create an empty topic."""
        assert self._admin is not None
        for future in self._admin.create_topics([NewTopic(name, partitions, 1)]).values():
            future.result(30)

    def create_topics(self, feed: ExchangeFeed) -> None:
        """Create the topics of a feed, as `k2 up` does."""
        assert self._admin is not None
        self._wait(broker.create_topics(self._admin, [feed]))

    def counter(self, *names: str) -> "Counter":
        """Return a counter of the records in these topics."""
        return Counter(self.bootstrap, names)

    async def _start(self) -> None:
        os.sched_setaffinity(0, cores()[1])
        controller, folder = free(), self.layout.kafka
        java = await asyncio.to_thread(java_and_jars)
        broker.prepare(java, folder, self.port, controller)
        self._child = broker.child(java, folder, self.layout.log("broker"))
        await self._child.start()
        self._runner = web.AppRunner(application(SchemaStore(self.layout.registry)), access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, self.registry_port).start()
        self._admin = await broker.ready(self._child, self.port)

    async def _stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        if self._child is not None:
            await self._child.stop(10.0)

    def _wait(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_WITHIN)


class Counter:
    """Count the acknowledged records in topics, by their high watermarks."""

    def __init__(self, bootstrap: str, names: tuple[str, ...]) -> None:
        self._consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "bench-counter"})
        metadata = self._consumer.list_topics(timeout=10).topics
        if absent := [name for name in names if name not in metadata]:
            raise BenchFailed(f"unknown topic {', '.join(absent)}")
        self._partitions = [TopicPartition(name, number) for name in names for number in metadata[name].partitions]

    def __call__(self) -> int:
        """Return the current number of records."""
        return sum(self._consumer.get_watermark_offsets(part, timeout=10)[1] for part in self._partitions)

    def close(self) -> None:
        """Close the consumer."""
        self._consumer.close()


@contextmanager
def services(folder: Path) -> Iterator[Services]:
    """Run a broker and a registry with their data in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    running = Services(Layout.at(folder))
    try:
        running.start()
        yield running
    finally:
        running.stop()


def feed(symbols: list[str], *, port: int = 0, topic: str = "", trigger: str = "", partitions: int = 4) -> ExchangeFeed:
    """Return a Binance feed, reading from a local port if one is given; an empty trigger means the default."""
    ingest = {"endpoints": [f"ws://{HOST}:{port}"], "restEndpoint": f"http://{HOST}:{port}"} if port else {}
    layers = {layer: {"trigger": trigger} for layer in ("bronze", "silver", "gold")} if trigger else {}
    spec = {
        "exchange": "binance",
        "symbols": symbols,
        "ingest": ingest,
        "kafka": {"partitions": partitions, "topic": topic or topics.trades("binance")},
        "layers": layers,
    }
    body = {"apiVersion": "k2.marketdata.io/v1alpha1", "kind": "ExchangeFeed", "metadata": {"name": "bench"}}
    return ExchangeFeed.from_body({**body, "spec": spec})


def write_feed(exchange_feed: ExchangeFeed, folder: Path) -> Path:
    """Write the feed to a YAML file and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "bench.yaml"
    file.write_text(plan.to_yaml(exchange_feed), "utf-8")
    return file
