"""`k2 dead-letters redrive`: judges dead letters of a category again, of the ingest and of Silver."""

import asyncio
import json
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from k2.cli.commands import audit
from k2.cli.commands.options import Data, load_state
from k2.cli.embedded import plan, state
from k2.cli.embedded.integrity import Unusable
from k2.cli.embedded.layout import DEFAULT, Layout
from k2.cli.exits import FAILED, UNREACHABLE, refuse
from k2.cli.feed_files import read_feed
from k2.schemas.channels import TRADES
from k2.schemas.content import ID_CONFLICT
from k2.schemas.feed.model import ExchangeFeed
from k2.schemas.validation import ErrorCategory

if TYPE_CHECKING:
    from k2.common.platform import Platform
    from k2.ingest.redrive import Judged
    from k2.query.engine import Engine
    from k2.schemas.exchanges.spec import Pair
    from k2.schemas.records.trade import Trade

_OF_SILVER: Final = (*map(str, ErrorCategory), ID_CONFLICT)
_IDS: Final = 1_000  # looked up in Gold at once


def redrive(
    category: Annotated[str, typer.Argument(help="The category, such as UNDECODABLE or MALFORMED_ITEM.")],
    feed: Annotated[list[str], typer.Option(help="Only this feed; repeatable. Default: all of the folder.")] = [],  # noqa: B006
    data: Data = DEFAULT,
) -> None:
    """Judge dead letters again after their cause was mended; those that are valid become records, once.

    Prints what became of them as JSON. Frames of the ingest need a running platform.
    """
    from k2.ingest import redrive as frames

    if category not in (*_OF_SILVER, *frames.CATEGORIES):
        allowed = ", ".join((*_OF_SILVER, *frames.CATEGORIES))
        refuse(f"{category!r} cannot be judged again; choose from {allowed}")
    layout = Layout.at(data)
    current = load_state(layout)
    if unknown := sorted(set(feed) - set(current.feeds)):
        refuse(f"--feed: {unknown[0]!r} is no feed of {layout.root}; choose from {', '.join(current.feeds)}")
    names = feed or current.feeds
    if category in frames.CATEGORIES:
        _redrive_frames(layout, current, category, [read_feed(layout.feeds / f"{name}.yaml") for name in names])
        return
    raise typer.Exit(_redrive_records(layout, current, category, names))


def _redrive_records(layout: Layout, current: state.State, category: str, names: list[str]) -> int:
    from k2.cli.commands.doctor import java_and_jars

    files = [word for name in names for word in ("--feed", str(layout.feeds / f"{name}.yaml"))]
    words = [*files, "--category", category, "--memory", "512m"]
    try:
        arguments, environment = audit.command(layout, *words, module="k2.jobs.redrive")
        java_and_jars()
        with _registry(layout, current) as port:
            environment["K2_REGISTRY_URL"] = f"http://127.0.0.1:{port}"
            return subprocess.run(arguments, env=environment, check=False).returncode
    except (state.UnreadableState, Unusable) as error:
        refuse(str(error))


@contextmanager
def _registry(layout: Layout, current: state.State) -> Iterator[int]:
    """Yield the port of the running platform's registry, or of one that runs meanwhile. Raises `Unusable`."""
    if current.running:
        yield current.ports[plan.REGISTRY]
        return
    from k2.cli.embedded import offline

    with offline.registry(layout) as port:
        yield port


def _redrive_frames(layout: Layout, current: state.State, category: str, feeds: list[ExchangeFeed]) -> None:
    from k2.common.schema_registry import RegistryUnavailable
    from k2.ingest.kafka.publisher import KafkaUnreachable, ProducerFatal
    from k2.query.engine import Engine
    from k2.query.errors import Unavailable

    if not current.running:
        refuse(f"no platform runs in {layout.root}, whose Kafka has the frames; start it with k2 up", code=UNREACHABLE)
    platform = layout.platform(kafka_port=current.ports[plan.KAFKA], registry_port=current.ports[plan.REGISTRY])
    try:
        with closing(Engine(platform)) as engine:
            done = [_redrive_feed(engine, platform, feed, category) for feed in feeds]
    except (Unavailable, RegistryUnavailable, KafkaUnreachable, ProducerFatal) as error:
        refuse(" ".join(str(error).split()), code=UNREACHABLE)
    typer.echo(json.dumps(done, indent=2))
    if any(one["unacknowledged"] for one in done):
        refuse("Kafka has not acknowledged every record; run it again", code=FAILED)


def _redrive_feed(engine: "Engine", platform: "Platform", feed: ExchangeFeed, category: str) -> dict[str, Any]:
    from k2.common.schema_registry import Registry
    from k2.ingest import redrive as frames
    from k2.schemas import topics

    judged = _judge(engine, feed, category)
    records = frames.unsent(judged.records, _stored(engine, judged.records))
    lost = 0
    if records:
        topic = feed.topic(TRADES)
        schema_id = Registry(platform.registry).register(topics.subject(topic), TRADES.schema)
        lost = asyncio.run(frames.publish(platform.kafka, TRADES, topic, feed.name, schema_id, records))
    return {
        "exchange": feed.exchange_spec.label,
        "feed": feed.name,
        "category": category,
        "frames": judged.frames,
        "sent": len(records) - lost,
        "stored_before": len({record.message_id for record in judged.records}) - len(records),
        "came_back": dict(judged.came_back),
        "unacknowledged": lost,
    }


def _judge(engine: "Engine", feed: ExchangeFeed, category: str) -> "Judged":
    from k2.ingest import redrive as frames
    from k2.ingest.exchanges import adapter

    endpoints = feed.spec.ingest.endpoints
    protocol = adapter(feed.spec.exchange, TRADES, _pairs(engine, feed), endpoints[0] if endpoints else "")
    stored = engine.raw_frames.of_feed(feed.exchange_spec.label, feed.name, category)
    return frames.judge(
        protocol,
        (
            frames.StoredFrame(
                f"{record.topic_partition[0]}/{record.topic_partition[1]}/{record.offset}",
                record.value.body,
                record.timestamp * 1000,
            )
            for record in stored
        ),
    )


def _pairs(engine: "Engine", feed: ExchangeFeed) -> "list[Pair]":
    """Return the instruments of the feed's exchange as K2 recorded them: of a feed that names symbols, only those."""
    from k2.query.sql.instruments import valid_at
    from k2.query.sql.record_sql import RecordFilter
    from k2.schemas.exchanges.spec import Pair

    label = feed.exchange_spec.label
    rows = valid_at(engine, datetime.now(UTC), RecordFilter.of(None, label, None, None)).to_pylist()
    names = {name.symbol for name in feed.names}
    return [
        Pair(row["raw_symbol"], row["symbol"], row["base_asset"], row["quote_currency"])
        for row in rows
        if not names or row["symbol"] in names
    ]


def _stored(engine: "Engine", records: "list[Trade]") -> set[str]:
    """Return the ids of those records that Gold has."""
    ids = sorted({str(record.message_id) for record in records})
    stored: set[str] = set()
    for first in range(0, len(ids), _IDS):
        listed = ", ".join(f"'{one}'" for one in ids[first : first + _IDS])
        rows = engine.sql(f"SELECT message_id FROM gold_crypto_trades WHERE message_id IN ({listed})")  # noqa: S608 - UUIDs
        stored.update(str(row["message_id"]) for row in rows.to_pylist())
    return stored
