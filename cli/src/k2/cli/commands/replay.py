"""`k2 replay`: replays trades to a pipe or file, into a Kafka topic, or as the exchange's own API."""

import asyncio
import re
import signal
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from k2.cli import output
from k2.cli.commands.query import AsOf, Data, End, Exchange, Output
from k2.cli.embedded import plan, state
from k2.cli.embedded.layout import DEFAULT, Layout
from k2.cli.exits import FAILED, UNREACHABLE, ignore_sigpipe, refuse, say
from k2.cli.output import Format
from k2.query import times
from k2.query.errors import BadQuery, Unavailable, WrongFormat
from k2.query.replay import Layer
from k2.schemas import topics
from k2.schemas.channels import TRADES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from k2.common.kafka_connection import KafkaConnection
    from k2.common.platform import Platform
    from k2.ingest.simulator.server import Simulator
    from k2.ingest.simulator.table_source import TableSource
    from k2.query.engine import Engine
    from k2.query.replay.source import ReplayRange
    from k2.schemas.exchanges.spec import Pair
    from k2.schemas.records.trade import Trade

_TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")
_PARTITIONS: Final = 6
_FLUSH_TIMEOUT: Final = 30.0  # seconds for Kafka to acknowledge all records
_POLL_SECONDS: Final = 0.1


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(replay)


def replay(
    start: Annotated[str, typer.Option(metavar="TIME", help="Inclusive start, such as 2026-01-31T14:00:00Z.")],
    end: End = None,
    symbol: Annotated[list[str], typer.Option(help="Only this symbol; repeatable.")] = [],  # noqa: B006
    exchange: Exchange = None,
    layer: Annotated[Layer, typer.Option(help="gold: each trade once; bronze: every record as received.")] = Layer.GOLD,
    speed: Annotated[
        str | None, typer.Option(help="Multiple of the original pace, or max. Default: max for --output, else 1.")
    ] = None,
    as_of: AsOf = None,
    topic: Annotated[str | None, typer.Option(help="Write to this Kafka topic, which is created if missing.")] = None,
    serve: Annotated[bool, typer.Option("--serve", help="Serve the exchange's own websocket and REST API.")] = False,
    host: Annotated[str, typer.Option(help="Address to serve on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="Port to serve on; 0: any free port, which is printed.", min=0, max=65535)
    ] = 0,
    form: Annotated[Format, typer.Option("--format", help="Format of the output.")] = Format.JSON,
    to: Output = None,
    data: Data = DEFAULT,
) -> None:
    """Replay trades with their original ids, at their original pace or another."""
    if sum((topic is not None, serve, to is not None)) > 1:
        refuse("--topic, --serve and --output exclude each other; give one")
    with _opened(data) as (engine, platform):
        from k2.query.replay.pace import parse_speed
        from k2.query.replay.source import ReplayRange

        query_range = ReplayRange(
            times.parse(start),
            times.parse(end) if end else None,
            tuple(symbol),
            exchange,
            layer,
            times.parse_as_of(as_of) if as_of else None,
        )
        pace = parse_speed(speed or ("max" if to else "1"))
        if serve:
            _serve(engine, platform, query_range, pace, host, port)
        elif topic is not None:
            _produce(engine, platform, query_range, pace, topic)
        else:
            _write(engine, platform, query_range, pace, form, to)


@contextmanager
def _opened(data: Path) -> "Iterator[tuple[Engine, Platform]]":
    from k2.query.engine import Engine

    layout = Layout.at(data)
    try:
        ports = state.load(layout.state).ports
        platform = layout.platform(kafka_port=ports.get(plan.KAFKA, 9092), registry_port=ports.get(plan.REGISTRY, 8081))
        with closing(Engine(platform)) as engine:
            yield engine, platform
    except (BadQuery, WrongFormat, state.UnreadableState) as error:
        refuse(" ".join(str(error).split()))
    except Unavailable as error:
        refuse(" ".join(str(error).split()), code=UNREACHABLE)


def _write(
    engine: "Engine", platform: "Platform", query_range: "ReplayRange", speed: float, form: Format, to: Path | None
) -> None:
    from k2.query.replay import rows

    output.write(rows.to_reader(_chunks(engine, platform, query_range, speed)), form, to)


def _chunks(
    engine: "Engine", platform: "Platform", query_range: "ReplayRange", speed: float
) -> "Iterator[list[Trade]]":
    from k2.query.replay import pace, source

    trades = source.trades(engine, platform.registry, query_range)
    return pace.paced(map(source.mark_replayed, trades), pace.Pace(speed, time.monotonic), _sleep)


def _sleep(duration: float) -> None:
    sys.stdout.flush()  # the reader of a pipe gets each trade when it is due
    time.sleep(duration)


def _produce(engine: "Engine", platform: "Platform", query_range: "ReplayRange", speed: float, topic: str) -> None:
    from k2.common.schema_registry import IncompatibleSchema, Registry, RegistryUnavailable
    from k2.ingest.kafka.publisher import KafkaUnreachable, ProducerFatal

    if not _TOPIC.fullmatch(topic) or topic.startswith(topics.RESERVED_PREFIXES):
        raise BadQuery(f"{topic[:60]!r} is not a valid topic for trades; use letters, digits, dots and dashes")
    chunks = _chunks(engine, platform, query_range, speed)
    try:
        schema_id = Registry(platform.registry).register(topics.subject(topic), TRADES.schema)
        _create_topic(platform.kafka, topic)
        sent, lost = asyncio.run(_publish(platform.kafka, topic, schema_id, chunks))
    except IncompatibleSchema as error:
        raise BadQuery(f"{topic} has another schema than trades: {error}") from error
    except (KafkaUnreachable, RegistryUnavailable, ProducerFatal) as error:
        raise Unavailable(str(error)) from error
    say(f"{sent - lost} trades written to {topic}")
    if lost:
        refuse(f"{lost} trades were not acknowledged by Kafka", code=FAILED)


def _create_topic(kafka: "KafkaConnection", topic: str) -> None:
    from confluent_kafka import KafkaError, KafkaException
    from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

    from k2.common.kafka_connection import ConnectionErrors

    errors, admin = ConnectionErrors(), None
    try:
        admin = AdminClient({**kafka.client(errors), "log_level": 0})
        if topic not in admin.list_topics(timeout=10.0).topics:
            admin.create_topics([NewTopic(topic, _PARTITIONS, -1)])[topic].result(30.0)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise Unavailable(f"Kafka at {kafka}: {errors.describe(error, admin)}") from error


async def _publish(
    kafka: "KafkaConnection", topic: str, schema_id: int, chunks: "Iterator[list[Trade]]"
) -> tuple[int, int]:
    """Publish trades; return how many were sent, and how many of them were never acknowledged."""
    from k2.ingest.kafka.publisher import Publisher, Topics
    from k2.ingest.telemetry.stats import Stats

    publisher = Publisher(kafka, TRADES, Topics(topic, topic, topic), "replay", schema_id, Stats(time.time()))
    polling = asyncio.create_task(publisher.run())
    try:
        await publisher.check()
        # In a thread: next() reads tables and sleeps until the next trade is due.
        while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
            for trade in chunk:
                if publisher.blocked:
                    await publisher.wait_unblocked()
                publisher.send(trade)
    finally:
        polling.cancel()
        await asyncio.gather(polling, return_exceptions=True)
        lost = await publisher.close(_FLUSH_TIMEOUT)
    return publisher.sent, lost


def _serve(
    engine: "Engine", platform: "Platform", query_range: "ReplayRange", speed: float, host: str, port: int
) -> None:
    from k2.ingest.exchanges import venue
    from k2.ingest.simulator.server import Simulator
    from k2.ingest.simulator.table_source import NotReplayable, TableSource, sim_trade
    from k2.query.replay import source
    from k2.schemas.exchanges.registry import EXCHANGES

    exchange = query_range.trade_filter().exchange
    if exchange is None:
        raise BadQuery(f"--serve needs --exchange; choose from {', '.join(EXCHANGES)}")
    pairs: dict[str, Pair] = {}
    try:
        for trade in source.trades(engine, platform.registry, query_range):
            pairs.setdefault(trade.symbol, source.pair(trade))
            sim_trade(trade, pairs)
    except NotReplayable as error:
        raise BadQuery(str(error)) from error
    table_source = TableSource(source.trades(engine, platform.registry, query_range), list(pairs.values()), speed)
    simulator = Simulator(venue(exchange.lower())(list(pairs.values())), table_source)
    ignore_sigpipe()
    try:
        asyncio.run(_until_stopped(simulator, table_source, host, port, exchange))
    except OSError as error:
        raise BadQuery(f"--host {host} --port {port}: {error.strerror}; choose another") from error


async def _until_stopped(
    simulator: "Simulator", table_source: "TableSource", host: str, port: int, exchange: str
) -> None:
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    opened = await simulator.start(host, port)
    say(f"replaying {exchange} at ws://{host}:{opened} and http://{host}:{opened} from the first subscription on")
    reporting = asyncio.create_task(_report_end(table_source))
    await stop.wait()
    reporting.cancel()
    await simulator.stop()


async def _report_end(table_source: "TableSource") -> None:
    while not table_source.finished:  # noqa: ASYNC110 - the source is read by the simulator's own loop
        await asyncio.sleep(_POLL_SECONDS)
    say(f"all {table_source.emitted} trades were told; REST answers until ctrl-c")
