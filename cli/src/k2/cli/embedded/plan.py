"""The processes of an embedded platform and their command lines. Nothing is started here."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import yaml

from k2.cli.embedded.foreign_tables import ONLY_REST
from k2.cli.embedded.ports import HOST
from k2.common import kafka_connection
from k2.common.platform import Platform
from k2.schemas.channels import TRADES, Channel
from k2.schemas.feed.model import ExchangeFeed

KAFKA, CONTROLLER, REGISTRY, JOBS, API = "kafka", "controller", "registry", "jobs", "api"


@dataclass(frozen=True, slots=True)
class Options:
    """The options of `k2 up`."""

    simulate: bool = False
    seed: str = "1"
    rate: float = 30.0  # trades per second of each simulated exchange
    faults: tuple[str, ...] = ()  # injected into every simulated exchange
    ports: dict[str, int] = field(default_factory=dict)  # requested ones
    memory: str = "1g"  # Spark's heap
    attempts: int = 10  # failed connects in a row before a feed gives up; 0: never
    audit: bool = True  # hourly, and at the end
    ingest: tuple[str, ...] = ()  # further arguments of `python -m k2.ingest`


@dataclass(frozen=True, slots=True)
class Shard:
    """One ingest process: one replica of a shard of a feed, for one channel."""

    feed: ExchangeFeed
    channel: Channel
    index: int
    replica: int

    @property
    def part(self) -> str:
        """`ingest-<feed>-<shard>-<replica>` for trades, `ingest-<feed>-<channel>-<shard>-<replica>` for the others."""
        channel = "" if self.channel is TRADES else f"{self.channel.name}-"
        return f"ingest-{self.feed.name}-{channel}{self.index}-{self.replica}"


def shards(feeds: Sequence[ExchangeFeed]) -> Iterator[Shard]:
    """Yield every ingest process of the feeds; a shard without symbols has none."""
    for feed in active(feeds):
        for channel, index in product(feed.channels, feed.shards()):
            yield from (Shard(feed, channel, index, replica) for replica in range(feed.spec.ingest.redundancy))


def active(feeds: Sequence[ExchangeFeed]) -> list[ExchangeFeed]:
    """Return the feeds that are not suspended."""
    return [feed for feed in feeds if not feed.spec.suspend]


def simulator(feed: ExchangeFeed) -> str:
    """Return the name of the process that simulates a feed's exchange."""
    return f"simulator-{feed.name}"


def parts(feeds: Sequence[ExchangeFeed], options: Options) -> list[str]:
    """Return every process that needs a port. A suspended feed has none."""
    simulators = [simulator(feed) for feed in active(feeds)] if options.simulate else []
    jobs = [JOBS] if active(feeds) else []
    return [KAFKA, CONTROLLER, REGISTRY, API, *jobs, *simulators, *(shard.part for shard in shards(feeds))]


def with_endpoint(feed: ExchangeFeed, port: int) -> ExchangeFeed:
    """Return the feed with its exchange replaced by a server on this machine."""
    endpoints = feed.spec.ingest.endpoints
    fragment = endpoints[0].partition("#")[2] if endpoints else ""
    websocket = f"ws://127.0.0.1:{port}" + (f"#{fragment}" if fragment else "")
    changes = {"endpoints": (websocket,), "rest_endpoint": f"http://127.0.0.1:{port}"}
    ingest = feed.spec.ingest.model_copy(update=changes)
    return feed.model_copy(update={"spec": feed.spec.model_copy(update={"ingest": ingest})})


def to_yaml(feed: ExchangeFeed) -> str:
    """Return the feed as YAML."""
    return yaml.safe_dump(feed.model_dump(mode="json", by_alias=True, exclude_none=True), sort_keys=False)


def environment(platform: Platform) -> dict[str, str]:
    """Return the environment variables that configure the platform's processes."""
    variables = {
        "kafka_bootstrap": platform.kafka_bootstrap,
        "kafka_security_protocol": platform.kafka_security_protocol,
        **{
            f"kafka_{name}": getattr(platform.kafka, name) for name in kafka_connection.FIELDS
        },  # over those of a cluster
        "registry_url": platform.registry_url,
        **{f"catalog_{name}": getattr(platform, f"catalog_{name}") for name in ("type", "uri", "user", *ONLY_REST)},
        "warehouse": platform.warehouse,
        "checkpoints": platform.checkpoints,
        "log_format": platform.log_format,
    }
    return {f"K2_{key.upper()}": value for key, value in variables.items()}


def egress_processes(feed: ExchangeFeed, feeds: Sequence[ExchangeFeed], options: Options) -> int:
    """Return how many processes reach the exchange of a feed; a simulated exchange has one feed."""
    sharing = [feed] if options.simulate else [each for each in feeds if each.spec.exchange == feed.spec.exchange]
    return max(1, sum(each.ingest_processes() for each in sharing))


def ingest_command(shard: Shard, file: Path, egress: Path, port: int, options: Options) -> list[str]:
    """Return the command line of one ingest process."""
    arguments = ["--feed", str(file), "--channel", shard.channel.name, "--shard", str(shard.index)]
    arguments += ["--replica", str(shard.replica), "--port", str(port), "--egress", str(egress)]
    return [sys.executable, "-m", "k2.ingest", *arguments, "--max-attempts", str(options.attempts), *options.ingest]


def jobs_command(files: Sequence[Path], port: int, options: Options) -> list[str]:
    """Return the command line of the Spark application with all layers of all feeds."""
    feeds = [word for file in files for word in ("--feed", str(file))]
    audit = ["--audit"] if options.audit else []
    arguments = ["--port", str(port), "--memory", options.memory, "--restart", *audit]
    return [sys.executable, "-m", "k2.jobs", *feeds, *arguments]


def api_command() -> list[str]:
    """Return the command line of the HTTP API, which is configured by its environment only."""
    return [sys.executable, "-m", "k2.query.api"]


def api_environment(port: int) -> dict[str, str]:
    """Return its address: on this machine, whatever the environment configures for another server."""
    return {"K2_API_HOST": HOST, "K2_API_PORT": str(port)}


def simulator_command(feed: ExchangeFeed, port: int, since: float, options: Options) -> list[str]:
    """Return the command line of a simulated exchange."""
    faults = [word for fault in options.faults for word in ("--fault", fault)]
    return [
        *(sys.executable, "-m", "k2.ingest.simulator", feed.spec.exchange, "--port", str(port)),
        *("--seed", f"{options.seed}/{feed.name}", "--rate", str(options.rate), "--since", str(since), *faults),
        *("--symbols", *(feed.spec.symbols or ())),
    ]
