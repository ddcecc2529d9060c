"""A channel defined in these files alone goes from a socket to Gold and through audit, maintenance and purge."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]
from pyspark.sql import SparkSession

from k2.common.platform import Platform
from k2.common.schema_registry import Registry
from k2.ingest import app as ingest
from k2.ingest.connection.session import Tuning
from k2.jobs.app import App, LayerFailed
from k2.jobs.audit.runner import audit
from k2.jobs.commit.checkpoints import RECOVERED, BrokenCheckpoint
from k2.jobs.commit.lost_records import RecordsLost
from k2.jobs.kafka_admin import KafkaTopics
from k2.jobs.maintenance.runner import Maintenance
from k2.jobs.purge import Purge
from k2.jobs.recover import Recovery
from k2.schemas import tables, topics
from k2.schemas.channels import Channel
from k2.schemas.codecs import avro, wire
from k2.schemas.exchanges.spec import Pair
from k2.schemas.feed.model import ExchangeFeed
from k2.schemas.states import HourState, QueryState
from k2.schemas.tables import CATALOG, NAMESPACE
from tests.spark.channel.depth import DEPTH, SNAPSHOT, DepthAdapter
from tests.spark.channel.venue import SYMBOLS, DepthVenue
from tests.system import lab

pytestmark = pytest.mark.spark

UPDATES, SKIPPED, CUT_AFTER = 40, 30, 20
LAYERS = ("bronze", "silver", "gold")


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with lab.broker(tmp_path_factory.mktemp("broker")) as address:
        yield address


@pytest.fixture
def platform(kafka: str, empty: Platform) -> Platform:
    """An empty lake beside an empty Kafka."""
    admin = AdminClient({"bootstrap.servers": kafka})
    if names := [name for name in admin.list_topics(timeout=10).topics if not name.startswith("__")]:
        delete_topics(admin, names)
    return empty.model_copy(update={"kafka_bootstrap": kafka})


def delete_topics(admin: AdminClient, names: list[str]) -> None:
    for future in admin.delete_topics(names).values():
        future.result(30)
    time.sleep(1)  # the broker answers before the name is free


def feed_of(port: int) -> ExchangeFeed:
    """Return a feed whose exchange is on a port of this machine."""
    ends = {"endpoints": [f"ws://127.0.0.1:{port}"], "restEndpoint": f"http://127.0.0.1:{port}"}
    return ExchangeFeed.from_body(
        {
            "apiVersion": "k2.marketdata.io/v1alpha1", "kind": "ExchangeFeed", "metadata": {"name": "depths"},
            "spec": {"exchange": "binance", "symbols": list(SYMBOLS), "ingest": ends},
        }
    )  # fmt: skip


def create_topics(platform: Platform, feed: ExchangeFeed) -> None:
    shared = (topics.gaps, topics.evidence, topics.instruments, topics.dead_letters)
    names = (feed.topic(DEPTH), *(topic("binance") for topic in shared))
    admin = AdminClient({"bootstrap.servers": platform.kafka_bootstrap})
    for future in admin.create_topics([NewTopic(name, 1 if "gaps" in name else 2, 1) for name in names]).values():
        future.result(30)


def find_depth(_exchange: str, _channel: Channel, pairs: Sequence[Pair], _endpoint: str) -> DepthAdapter:
    """Return the channel's only adapter, as `k2.ingest.exchanges.adapter` does for the channels that K2 knows."""
    return DepthAdapter(pairs)


async def read_socket(platform: Platform, venue: DepthVenue) -> tuple[ExchangeFeed, int]:
    """Run the ingest until the exchange has sent everything. Return the feed and the undelivered records."""
    feed = feed_of(await venue.start())
    await asyncio.to_thread(create_topics, platform, feed)
    stop = asyncio.Event()
    options = ingest.Options(grace=20, tuning=Tuning(backoff_first=0.1, backoff_limit=0.2))
    running = asyncio.create_task(ingest.run(feed, platform, options, stop, DEPTH, find_depth))
    expected = (CUT_AFTER + UPDATES - 1) * len(SYMBOLS) + 1
    async with asyncio.timeout(60):
        while len(venue.sent) < expected and not running.done():  # noqa: ASYNC110 - the exchange has no event
            await asyncio.sleep(0.05)
    await asyncio.sleep(0.5)
    stop.set()
    undelivered = await running
    await venue.stop()
    return feed, undelivered


def in_kafka(platform: Platform, topic: str) -> list[Any]:
    """Return every message of a topic."""
    settings = {"bootstrap.servers": platform.kafka_bootstrap, "group.id": "t", "auto.offset.reset": "earliest"}
    consumer = Consumer(settings)
    consumer.subscribe([topic])
    messages: list[Any] = []
    quiet = 0
    while quiet < 8:
        batch = consumer.consume(1000, timeout=0.5)
        quiet = 0 if batch else quiet + 1
        messages += batch
    consumer.close()
    return messages


def repeat(platform: Platform, topic: str, messages: list[Any]) -> None:
    """Put messages into Kafka again, as they are."""
    producer = Producer({"bootstrap.servers": platform.kafka_bootstrap})
    for message in messages:
        producer.produce(topic, message.value(), message.key(), partition=message.partition())
    assert producer.flush(20) == 0


@contextmanager
def no_trades(spark: SparkSession) -> Iterator[None]:
    """Check that no table of another channel was made."""
    yield
    names = {row["tableName"] for row in spark.sql(f"SHOW TABLES IN {CATALOG}.{NAMESPACE}").collect()}
    assert not {name for name in names if name.endswith(("_trades", "ohlcv_1m"))} - {tables.DEAD_LETTERS}


def run_layers(spark: SparkSession, platform: Platform, feed: ExchangeFeed) -> None:
    """Process everything that Kafka holds, then stop."""
    stop = threading.Event()
    stop.set()
    App(spark, platform, [feed], LAYERS, restart=False, channels=[DEPTH]).run(stop)


def test_a_channel_goes_from_the_socket_to_gold_and_through_audit_maintenance_and_purge(spark, platform):
    venue = DepthVenue(UPDATES, skip=frozenset({SKIPPED}), cut_after=CUT_AFTER)
    with no_trades(spark):
        feed, undelivered = asyncio.run(read_socket(platform, venue))
        assert (undelivered, venue.clients, venue.snapshots) == (0, 2, 4)
        _check_kafka(platform, feed, venue)
        run_layers(spark, platform, feed)
        _check_tables(spark, venue)
        _check_audit(spark, platform)
        _check_maintenance(spark, platform, feed)
        _check_purge(spark, platform, feed)


def test_a_topic_that_was_made_again_is_refused_until_it_is_accepted(spark, platform):
    feed, admin = feed_of(1), AdminClient({"bootstrap.servers": platform.kafka_bootstrap})
    topic, bronze = feed.topic(DEPTH), DEPTH.bronze("binance").identifier
    create_topics(platform, feed)
    Registry(platform.registry).register(topics.subject(topic), DEPTH.schema)
    _produce(platform, topic, 3)
    run_layers(spark, platform, feed)
    (row,) = spark.table(tables.BATCHES_TABLE.identifier).where("layer = 'bronze'").collect()
    assert row["topic_id"] == KafkaTopics(platform.kafka).ids([topic])[topic]
    delete_topics(admin, [topic])
    admin.create_topics([NewTopic(topic, 2, 1)])[topic].result(30)
    _produce(platform, topic, 5)
    stop = threading.Event()
    stop.set()
    app = App(spark, platform, [feed], LAYERS, restart=True, channels=[DEPTH])
    with pytest.raises(LayerFailed, match=r"^not drained: depths-depth-bronze: the topic .* was deleted[^;]*; bring"):
        app.run(stop)
    assert {stream.layer: stream.state.state for stream in app.streams} == {
        "bronze": QueryState.FAILED, "silver": QueryState.DRAINED, "gold": QueryState.DRAINED,
        "gaps": QueryState.DRAINED,
    }  # fmt: skip
    assert spark.table(bronze).count() == 3
    _check_recovery(spark, platform, feed)


def _check_recovery(spark: SparkSession, platform: Platform, feed: ExchangeFeed) -> None:
    """Bronze goes on with the first record of the new topic, no offset means two records, and the audit balances."""
    topic, tables_of = feed.topic(DEPTH), (DEPTH.bronze("binance"), DEPTH.silver("binance"))
    new = topics.remade(topic, KafkaTopics(platform.kafka).ids([topic])[topic])
    recover = Recovery(spark, platform, feed, [DEPTH])
    (done,) = recover.run()
    assert done.lost == {}
    assert (done.query, done.read_before) == ("depths-depth-bronze", {topic: {"0": 3, "1": 0}})
    assert list(done.topics) == [topic]
    assert recover.run() == []
    # Interrupted between its two renames, and an attempt to start since then: the recovery is finished, not forgotten.
    checkpoint = Path(done.old_checkpoint.partition(".before-")[0])
    checkpoint.rename(checkpoint.with_name(RECOVERED))
    with pytest.raises(BrokenCheckpoint, match="a recovery was interrupted"):
        run_layers(spark, platform, feed)
    assert recover.run() == []
    run_layers(spark, platform, feed)
    bronze = spark.table(tables_of[0].identifier).groupBy("topic").agg({"offset": "min", "*": "count"})
    assert {tuple(row) for row in bronze.collect()} == {(topic, 0, 3), (new, 0, 5)}
    dead = spark.table(tables.DEAD_LETTERS_TABLE.identifier)
    assert dead.count() == dead.select("topic", "partition", "offset").distinct().count() == 8
    report = audit(spark, platform, channels=[DEPTH])
    assert report.findings == []
    _produce(platform, topic, 2)
    assert audit(spark, platform, channels=[DEPTH]).exchanges["BINANCE"]["depth"].unread == {f"{topic}/0": 2}
    _check_lost(spark, platform, feed, new)
    removed = Purge(spark, platform, feed, exchange=False, channels=[DEPTH]).run()
    assert removed[tables_of[0].name] == removed[tables.DEAD_LETTERS] == 9


def _check_lost(spark: SparkSession, platform: Platform, feed: ExchangeFeed, topic: str) -> None:
    """What Kafka deleted unread is named, skipped only when that is accepted, and on record in the audit."""
    name = topics.in_kafka(topic)
    admin = AdminClient({"bootstrap.servers": platform.kafka_bootstrap})
    admin.delete_records([TopicPartition(name, 0, 6)])[TopicPartition(name, 0)].result(30)
    with pytest.raises(RecordsLost, match=f"Kafka deleted offsets 5 to 5 of {name}/0 before they were read"):
        run_layers(spark, platform, feed)
    recover = Recovery(spark, platform, feed, [DEPTH])
    (done,) = recover.run()
    assert (done.topics, done.lost) == ({}, {name: {"0": (5, 5)}})
    assert recover.run() == []
    run_layers(spark, platform, feed)
    report = audit(spark, platform, channels=[DEPTH])
    assert report.findings == []
    assert report.exchanges["BINANCE"]["depth"].lost == {f"{topic}/0": "5"}
    offsets = spark.table(DEPTH.bronze("binance").identifier).where(f"topic = '{topic}'").select("offset").collect()
    assert sorted(row[0] for row in offsets) == [0, 1, 2, 3, 4, 6]


def _produce(platform: Platform, topic: str, number: int) -> None:
    producer = Producer({"bootstrap.servers": platform.kafka_bootstrap})
    for _ in range(number):
        producer.produce(topic, b"no record", b"BTCUSDT", partition=0)
    assert producer.flush(20) == 0


def _check_kafka(platform: Platform, feed: ExchangeFeed, venue: DepthVenue) -> None:
    """Every update is in Kafka as it was sent, in order, with the adapter's verdict; then some are there twice."""
    messages = in_kafka(platform, feed.topic(DEPTH))
    records = [avro.decode(wire.split(m.value())[1], DEPTH.reader_schema, DEPTH.reader_schema) for m in messages]
    updates = sorted((r["symbol"], *_pairs(r["levels"])) for r in records if r["kind"] != SNAPSHOT)
    sent = [msgspec.json.decode(frame) for frame in venue.sent]
    assert updates == sorted((s["symbol"], *map(tuple, s["levels"])) for s in sent)
    assert Counter(r["kind"] for r in records)[SNAPSHOT] == venue.snapshots
    # The update after the skipped one is suspect, and so is the one that names a number that was never sent.
    assert Counter(r["verdict"] for r in records) == {"verified": len(records) - 3, "suspect": 3}
    assert {m.key().decode() for m in messages} == set(SYMBOLS)
    letters = {dict(m.headers())["k2-error"] for m in in_kafka(platform, topics.dead_letters("binance"))}
    assert letters == {b"MALFORMED_FRAME", b"UNSUBSCRIBED_SYMBOL"}
    assert in_kafka(platform, topics.gaps("binance")) == []
    repeat(platform, feed.topic(DEPTH), messages[:25])


def _pairs(levels: list[dict[str, int]]) -> list[tuple[int, int]]:
    return [(level["price"], level["quantity"]) for level in levels]


def _check_tables(spark: SparkSession, venue: DepthVenue) -> None:
    """Each message is in Bronze as often as in Kafka, valid or dead in Silver, and once in Gold, with its lists."""
    bronze, silver = spark.table(DEPTH.bronze("binance").identifier), spark.table(DEPTH.silver("binance").identifier)
    gold, dead = spark.table(DEPTH.gold.identifier), spark.table(tables.DEAD_LETTERS_TABLE.identifier)
    records = len(venue.sent) + venue.snapshots
    assert bronze.count() == records + 25
    (letter,) = {(row["channel"], row["error_category"], row["error_message"][:12]) for row in dead.collect()}
    assert letter == ("depth", "NEGATIVE_ORDINAL", "ordinal is -")
    assert silver.count() + dead.count() == records + 25
    assert gold.count() == gold.select(*DEPTH.identity).distinct().count() == records - 1
    stored = sorted(
        (r["symbol"], *(tuple(level) for level in r["levels"])) for r in gold.where("kind = 'update'").collect()
    )
    sent = [msgspec.json.decode(frame) for frame in venue.sent]
    assert stored == sorted((s["symbol"], *map(tuple, s["levels"])) for s in sent if s["levels"])
    snapshots = gold.where("kind = 'snapshot'").selectExpr("exchange_time", "exchange_date = date(ingestion_timestamp)")
    assert set(map(tuple, snapshots.collect())) == {(None, True)}
    assert _instruments(spark) == sorted(SYMBOLS)


def _instruments(spark: SparkSession) -> list[str]:
    """Return the symbols that the exchange's list has now, as the ingest published them."""
    rows = spark.table(tables.INSTRUMENTS_TABLE.identifier).where("valid_to IS NULL AND tick_size = 0.01")
    return sorted(row["symbol"] for row in rows.collect())


def _check_audit(spark: SparkSession, platform: Platform) -> None:
    """The audit balances, gives hours the state of their verdicts, and names a row that is taken away."""
    report = audit(spark, platform, channels=[DEPTH])
    assert report.findings == []
    hours = spark.table(tables.COMPLETENESS_TABLE.identifier).collect()
    assert {(row["channel"], row["symbol"]) for row in hours} == {("depth", symbol) for symbol in SYMBOLS}
    assert {row["state"] for row in hours} <= {HourState.OPEN, HourState.INCOMPLETE}
    later = audit(spark, platform, now=datetime.now(UTC) + timedelta(hours=2), channels=[DEPTH])
    assert {finding.check for finding in later.findings} == {"suspect_records"}
    states = {row["state"] for row in spark.table(tables.COMPLETENESS_TABLE.identifier).collect()}
    assert HourState.INCOMPLETE in states  # each symbol has a suspect update
    assert {row["channel"] for row in spark.table(tables.BATCHES_TABLE.identifier).collect()} == {"depth"}
    row = spark.table(DEPTH.gold.identifier).where("kind = 'update'").first()
    assert row is not None
    key = f"connection = '{row['connection']}' AND ordinal = {row['ordinal']}"
    spark.sql(f"DELETE FROM {DEPTH.gold.identifier} WHERE {key}")
    findings = audit(spark, platform, channels=[DEPTH]).findings
    assert sorted(finding.check for finding in findings) == ["gold_changed", "gold_missing"]
    assert any(row["connection"] in finding.text for finding in findings)
    spark.sql(f"DELETE FROM {DEPTH.silver('binance').identifier} WHERE {key}")
    assert "silver_missing" in {finding.check for finding in audit(spark, platform, channels=[DEPTH]).findings}


def _check_maintenance(spark: SparkSession, platform: Platform, feed: ExchangeFeed) -> None:
    """Maintenance tags Gold's days, and deletes what is older than the retention from Bronze and Silver alone."""
    gold = spark.table(DEPTH.gold.identifier).count()
    report = Maintenance(spark, platform, [feed], channels=[DEPTH]).run(now=datetime.now(UTC) + timedelta(days=40))
    assert report["errors"] == []
    assert report["tables"][DEPTH.gold.name]["new_tags"] > 0
    assert spark.table(DEPTH.bronze("binance").identifier).count() == 0
    assert spark.table(DEPTH.silver("binance").identifier).count() == 0
    assert spark.table(DEPTH.gold.identifier).count() == gold > 0


def _check_purge(spark: SparkSession, platform: Platform, feed: ExchangeFeed) -> None:
    """A purge drops the exchange's tables and deletes the rows of the shared ones, and the checkpoints."""
    removed = Purge(spark, platform, feed, exchange=True, channels=[DEPTH]).run()
    assert removed[DEPTH.bronze("binance").name] == removed[DEPTH.silver("binance").name] == "dropped"
    assert not spark.catalog.tableExists(DEPTH.bronze("binance").identifier)
    shared = (DEPTH.gold, tables.DEAD_LETTERS_TABLE, tables.COMPLETENESS_TABLE, tables.BATCHES_TABLE)
    assert {table.name: spark.table(table.identifier).count() for table in shared} == {t.name: 0 for t in shared}
    assert _instruments(spark) == sorted(SYMBOLS)
    assert not Path(platform.checkpoints, feed.name).exists()
