"""Spark's Kafka source over TLS with users: driver and executors read the files, and no plan holds a password."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AclOperation, NewTopic, ResourceType  # type: ignore[attr-defined]
from py4j.protocol import Py4JJavaError
from pyspark.sql import DataFrame, SparkSession

from k2.common.kafka_connection import KafkaConnection
from tests.certificates import Authority
from tests.system.secured_broker import SecuredBroker, secured_broker

pytestmark = pytest.mark.slow

TOPIC = "trades"
PASSWORD = "a-secret-of-the-jobs"
READ = (AclOperation.READ, AclOperation.DESCRIBE)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredBroker]:
    with secured_broker(tmp_path_factory.mktemp("broker"), Authority("first")) as running:
        for future in running.admin.create_topics([NewTopic(TOPIC, 2, 1)]).values():
            future.result(30)
        producer = Producer({"bootstrap.servers": running.address})
        for number in range(5):
            producer.produce(TOPIC, str(number))
        assert producer.flush(30) == 0
        for principal in ("jobs", "jobs-by-certificate"):
            running.allow(principal, ResourceType.TOPIC, TOPIC, *READ)
            running.allow(principal, ResourceType.GROUP, "spark-kafka-source-", *READ)
            running.allow(principal, ResourceType.GROUP, "spark-kafka-relation-", *READ)
        yield running


def records(spark: SparkSession, connection: KafkaConnection) -> DataFrame:
    quick = {"kafka.default.api.timeout.ms": "10000", "kafka.request.timeout.ms": "5000"}
    return spark.read.format("kafka").options(**connection.spark_options(), **quick, subscribe=TOPIC).load()


def test_records_are_read_and_no_plan_holds_the_password(spark: SparkSession, broker: SecuredBroker) -> None:
    scram, certificate = broker.user("jobs", PASSWORD), broker.client_certificate("jobs-by-certificate")
    for connection in (scram, certificate):
        assert sorted(int(row.value) for row in records(spark, connection).select("value").collect()) == [0, 1, 2, 3, 4]
    plan = records(spark, scram)._jdf.queryExecution().toString()
    assert PASSWORD not in plan
    assert PASSWORD not in str(spark.sparkContext.getConf().getAll())
    Path(scram.password_file).write_text("wrong")
    with pytest.raises(Py4JJavaError, match="Authentication failed"):
        records(spark, scram).collect()
    broker.user("jobs", "rotated")
    assert records(spark, scram).count() == 5
