"""What an embedded platform runs: feeds to processes and their command lines. Nothing is started here."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from k2.cli.embedded.ports import HOST
from k2.common.platform import Platform
from k2.schemas.feed.model import ExchangeFeed

KAFKA, CONTROLLER, REGISTRY, JOBS, API = "kafka", "controller", "registry", "jobs", "api"


@dataclass(frozen=True, slots=True)
class Options:
    """How `k2 up` was called, beside its feeds."""

    simulate: bool = False
    seed: str = "1"
    rate: float = 30.0  # trades a second of each simulated exchange
    faults: tuple[str, ...] = ()  # of every simulated exchange
    ports: dict[str, int] = field(default_factory=dict)  # wanted ones
    memory: str = "1g"  # Spark's heap
    attempts: int = 10  # connects in a row that may fail before a feed gives up; 0: no limit
    ingest: tuple[str, ...] = ()  # more arguments of `python -m k2.ingest`


@dataclass(frozen=True, slots=True)
class Shard:
    """One connection of one feed."""

    feed: ExchangeFeed
    index: int
    replica: int

    @property
    def part(self) -> str:
        """`ingest-<feed>-<shard>-<replica>`."""
        return f"ingest-{self.feed.name}-{self.index}-{self.replica}"


def shards(feeds: Sequence[ExchangeFeed]) -> Iterator[Shard]:
    """Every connection that the feeds want; a shard that no symbol falls into needs none."""
    for feed in active(feeds):
        for index in range(feed.spec.ingest.shards):
            if feed.shard(index):
                yield from (Shard(feed, index, replica) for replica in range(feed.spec.ingest.redundancy))


def active(feeds: Sequence[ExchangeFeed]) -> list[ExchangeFeed]:
    """The feeds that are not suspended."""
    return [feed for feed in feeds if not feed.spec.suspend]


def simulator(feed: ExchangeFeed) -> str:
    """The part that simulates a feed's exchange."""
    return f"simulator-{feed.name}"


def parts(feeds: Sequence[ExchangeFeed], options: Options) -> list[str]:
    """Every part that listens on a port. Nothing runs for a suspended feed."""
    simulators = [simulator(feed) for feed in active(feeds)] if options.simulate else []
    jobs = [JOBS] if active(feeds) else []
    return [KAFKA, CONTROLLER, REGISTRY, API, *jobs, *simulators, *(shard.part for shard in shards(feeds))]


def pointed(feed: ExchangeFeed, port: int) -> ExchangeFeed:
    """The feed with a server on this machine as its exchange."""
    endpoints = feed.spec.ingest.endpoints
    fragment = endpoints[0].partition("#")[2] if endpoints else ""
    websocket = f"ws://127.0.0.1:{port}" + (f"#{fragment}" if fragment else "")
    changes = {"endpoints": (websocket,), "rest_endpoint": f"http://127.0.0.1:{port}"}
    ingest = feed.spec.ingest.model_copy(update=changes)
    return feed.model_copy(update={"spec": feed.spec.model_copy(update={"ingest": ingest})})


def written(feed: ExchangeFeed) -> str:
    """The feed as YAML."""
    return yaml.safe_dump(feed.model_dump(mode="json", by_alias=True, exclude_none=True), sort_keys=False)


def environment(platform: Platform) -> dict[str, str]:
    """The platform as its processes are told of it."""
    told = {
        "kafka_bootstrap": platform.kafka_bootstrap,
        "registry_url": platform.registry_url,
        "catalog_uri": platform.catalog_uri,
        "warehouse": platform.warehouse,
        "checkpoints": platform.checkpoints,
        "log_format": platform.log_format,
    }
    return {f"K2_{key.upper()}": value for key, value in told.items()}


def ingest_command(shard: Shard, file: Path, port: int, options: Options) -> list[str]:
    """One shard's process."""
    words = ["--feed", str(file), "--shard", str(shard.index), "--replica", str(shard.replica), "--port", str(port)]
    return [sys.executable, "-m", "k2.ingest", *words, "--max-attempts", str(options.attempts), *options.ingest]


def jobs_command(files: Sequence[Path], port: int, options: Options) -> list[str]:
    """All layers of all feeds in one Spark application."""
    feeds = [word for file in files for word in ("--feed", str(file))]
    return [sys.executable, "-m", "k2.jobs", *feeds, "--port", str(port), "--memory", options.memory, "--restart"]


def api_command() -> list[str]:
    """The HTTP API, which is told everything by its environment."""
    return [sys.executable, "-m", "k2.query.api"]


def api_environment(port: int) -> dict[str, str]:
    """Where it listens: on this machine, whatever the environment says of another server."""
    return {"K2_API_HOST": HOST, "K2_API_PORT": str(port)}


def simulator_command(feed: ExchangeFeed, port: int, since: float, options: Options) -> list[str]:
    """A feed's exchange, simulated."""
    faults = [word for fault in options.faults for word in ("--fault", fault)]
    return [
        *(sys.executable, "-m", "k2.ingest.simulator", feed.spec.exchange, "--port", str(port)),
        *("--seed", f"{options.seed}/{feed.name}", "--rate", str(options.rate), "--since", str(since), *faults),
        *("--symbols", *feed.spec.symbols),
    ]
