"""Kafka over TLS with users: what each client of K2 says when its identity is wrong, and that it heals."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AclOperation, NewTopic, ResourceType  # type: ignore[attr-defined]

from k2.common.kafka_connection import KafkaConnection
from k2.common.platform import Platform
from k2.ingest.kafka import resume
from k2.ingest.kafka.probe import takes_records
from k2.ingest.kafka.publisher import KafkaUnreachable, Publisher, Topics
from k2.ingest.kafka.resume import KafkaUnreadable
from k2.ingest.telemetry.stats import Stats
from k2.jobs.audit.offsets.kafka import unread
from k2.jobs.kafka_admin import missing_topic_reason
from k2.query.errors import Unavailable
from k2.query.kafka.kafka_reader import RecordReader
from k2.schemas import topics
from k2.schemas.channels import TRADES
from k2.schemas.records.trade import Side, Trade
from tests.certificates import Authority
from tests.charts.rendering import needs_helm, of_kind, render
from tests.e2e import kafka_attempts
from tests.e2e.test_kafka_users import GROUPS, MAY
from tests.system.secured_broker import SecuredBroker, secured_broker

pytestmark = [pytest.mark.system, pytest.mark.slow]

TOPIC = topics.trades("binance")
NAMES = Topics(TOPIC, "gaps", "deadletter")
READ = (AclOperation.READ, AclOperation.DESCRIBE)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredBroker]:
    with secured_broker(tmp_path_factory.mktemp("broker"), Authority("first")) as running:
        created = [NewTopic(name, 2, 1) for name in (NAMES.records, NAMES.gaps, NAMES.dead_letters)]
        for future in running.admin.create_topics(created).values():
            future.result(30)
        for principal in ("ingest", "ingest-by-certificate"):
            for name in (NAMES.records, NAMES.gaps, NAMES.dead_letters):
                running.allow(principal, ResourceType.TOPIC, name, *READ, AclOperation.WRITE)
            running.allow(principal, ResourceType.GROUP, "k2-resume-", *READ)
        running.allow("query", ResourceType.TOPIC, TOPIC, *READ)
        running.allow("query", ResourceType.GROUP, "k2-query-", *READ)
        yield running


async def sent(connection: KafkaConnection) -> tuple[int, int]:
    """Publish a trade; return how many were sent and how many were lost."""
    publisher = Publisher(connection, TRADES, NAMES, "spot", 1, Stats(time.time()))
    polling = asyncio.create_task(publisher.run())
    await publisher.check(timeout=15)
    publisher.send(
        Trade("1", "BTCUSDT", "BINANCE", "BTC", "USDT", 10**15, 100, 1, Side.BUY, 10**15, (("source", "live"),))
    )
    lost = await publisher.close(30)
    polling.cancel()
    await asyncio.gather(polling, return_exceptions=True)
    return publisher.sent, lost


def failure(connection: KafkaConnection) -> str:
    """What the ingest says of a connection that fails."""

    async def check() -> None:
        await Publisher(connection, TRADES, NAMES, "spot", 1, Stats(time.time())).check(timeout=3)

    with pytest.raises(KafkaUnreachable) as failed:
        asyncio.run(check())
    return str(failed.value)


def resumed(connection: KafkaConnection) -> None:
    resume.read(
        connection, channel=TRADES, records=TOPIC, gaps=NAMES.gaps, feed="spot", pairs=[], schemas={}, protocol=None
    )  # type: ignore[arg-type]


def reader(connection: KafkaConnection) -> RecordReader:
    """A query service's reader over this connection."""
    platform = Platform(
        kafka_bootstrap=connection.bootstrap,
        kafka_security_protocol=connection.protocol,
        kafka_ca_file=connection.ca_file,
        kafka_certificate_file=connection.certificate_file,
        kafka_key_file=connection.key_file,
        kafka_username=connection.username,
        kafka_password_file=connection.password_file,
    )
    return RecordReader(platform, TRADES)


def stored(connection: KafkaConnection) -> int:
    """Return the number of records in the topic, which other tests of this module write to as well."""
    return sum((unread(connection, {(TOPIC, 0): -1, (TOPIC, 1): -1}) or {}).values())


def test_every_client_works_with_scram_and_with_a_client_certificate(broker: SecuredBroker) -> None:
    ingest, query = broker.user("ingest", "one"), broker.user("query", "two")
    by_certificate = broker.client_certificate("ingest-by-certificate")
    before = stored(query)
    for connection in (ingest, by_certificate):
        assert asyncio.run(sent(connection)) == (1, 0)
        assert takes_records(connection, TOPIC, "BTCUSDT")
        resumed(connection)
    assert missing_topic_reason(query, TOPIC) == ""
    assert stored(query) == before + 2
    records = reader(query)
    partitions = records.partitions({})
    ends = records.end_offsets(partitions)
    assert sum(ends.values()) == before + 2
    with pytest.raises(Unavailable, match="registry"):  # Kafka gave the records, which is what is asked here
        list(records.read(dict.fromkeys(ends, 0), ends, partitions))


@needs_helm
@pytest.mark.parametrize("user", MAY)
def test_a_user_of_the_chart_may_what_its_component_needs_and_no_more(broker: SecuredBroker, user: str) -> None:
    """The e2e test asks the same of a cluster."""
    read, write = topics.trades("kraken"), topics.dead_letters("kraken")
    if read not in broker.admin.list_topics(timeout=10).topics:
        for created in broker.admin.create_topics([NewTopic(name, 1, 1) for name in (read, write)]).values():
            created.result(30)
        producer = Producer({"bootstrap.servers": broker.address, "log_level": 0})  # ANONYMOUS may
        producer.produce(read, b"{}")
        assert producer.flush(30) == 0
    connection = broker.user(user, "right")
    for manifest in of_kind(render("k2-platform"), "KafkaUser"):
        if manifest["metadata"]["name"] == user:
            for acl in manifest["spec"]["authorization"]["acls"]:
                assert acl["resource"]["patternType"] == "prefix"
                kind = ResourceType[acl["resource"]["type"].upper()]
                operations = [AclOperation[name.upper()] for name in acl["operations"]]
                broker.allow(user, kind, acl["resource"]["name"], *operations)
    if user == "nobody":
        Path(connection.password_file).write_text("wrong")
    words = [user, connection.password_file, connection.ca_file, connection.bootstrap, read, write, *GROUPS]
    command = [sys.executable, kafka_attempts.__file__, *words]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=200)
    assert set(done.stdout.splitlines()) == {"done", *MAY[user]}, done.stderr


def test_a_wrong_password_is_named_and_heals_with_the_file(broker: SecuredBroker) -> None:
    connection = broker.user("ingest", "right")
    password = Path(connection.password_file)
    password.write_text("wrong")
    assert "Authentication failed" in failure(connection)
    assert "Authentication failed" in missing_topic_reason(connection, TOPIC)
    records = reader(connection)
    with pytest.raises(Unavailable, match="Authentication failed"):
        records.partitions({})
    with pytest.raises(KafkaUnreadable, match="Authentication failed"):
        resumed(connection)
    password.unlink()
    assert f"{password}, cannot be read: No such file" in failure(connection)
    password.write_text("right")
    assert asyncio.run(sent(connection)) == (1, 0)
    assert records.partitions({})  # the same reader


def test_a_rotated_password_reaches_a_running_producer_without_losing_a_record(broker: SecuredBroker) -> None:
    connection = broker.user("ingest", "one")

    async def send_during_rotation() -> tuple[int, int]:
        publisher = Publisher(connection, TRADES, NAMES, "spot", 1, Stats(time.time()))
        polling = asyncio.create_task(publisher.run())
        await publisher.check(timeout=15)
        rotated, ends = None, time.monotonic() + 14
        while time.monotonic() < ends:
            number = publisher.sent + 1
            record = Trade(str(number), "BTCUSDT", "BINANCE", "BTC", "USDT", 10**15, 100, 1, Side.BUY, 10**15)
            publisher.send(record)
            await asyncio.sleep(0.01)
            if number == 100:
                rotated = asyncio.create_task(asyncio.to_thread(broker.user, "ingest", "two"))
        assert rotated is not None
        await rotated
        lost = await publisher.close(5)
        polling.cancel()
        await asyncio.gather(polling, return_exceptions=True)
        return publisher.sent, lost

    count, lost = asyncio.run(send_during_rotation())
    assert count > 500
    assert lost == 0


def test_a_live_reader_is_outdated_after_a_rotation(broker: SecuredBroker) -> None:
    records = reader(broker.user("query", "two"))
    with closing(records.reader(records.partitions({}))) as live:
        assert not live.outdated
        broker.user("query", "three")
        assert live.outdated
    with closing(records.reader({})) as another:
        assert not another.outdated


def test_a_rotated_authority_is_named_and_heals_with_the_file(broker: SecuredBroker) -> None:
    connection = broker.user("ingest", "one")
    Authority("second").write_certificate(Path(connection.ca_file))
    assert "certificate verify failed" in failure(connection)
    Path(connection.ca_file).write_text("nothing")
    assert "ssl.ca.location" in failure(connection)
    broker.authority.write_certificate(Path(connection.ca_file))
    assert asyncio.run(sent(connection)) == (1, 0)


def test_an_expired_certificate_is_named_and_heals_with_the_file(broker: SecuredBroker) -> None:
    expired = broker.client_certificate("ingest-by-certificate", timedelta(days=-1))
    assert "alert certificate" in failure(expired)  # the broker does not say what is wrong with it
    assert asyncio.run(sent(broker.client_certificate("ingest-by-certificate"))) == (1, 0)


def test_a_missing_acl_is_named_and_heals(broker: SecuredBroker) -> None:
    connection = broker.user("stranger", "one")
    for said in (failure(connection), missing_topic_reason(connection, TOPIC)):
        assert TOPIC in said
        assert "user stranger may describe" in said
    broker.allow("stranger", ResourceType.TOPIC, TOPIC, *READ)
    assert missing_topic_reason(connection, TOPIC) == ""
    assert "gaps" in failure(connection)
