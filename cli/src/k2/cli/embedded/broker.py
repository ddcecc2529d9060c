"""The embedded Kafka broker: one KRaft process run from Maven archives, and the topics of the feeds."""

import asyncio
import base64
import subprocess
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from k2.cli.embedded.child import Child
from k2.cli.embedded.ports import HOST
from k2.jobs.spark.jvm import class_data
from k2.jobs.spark.jvm.jars import BROKER, classpath
from k2.jobs.spark.jvm.java import Java
from k2.schemas.feed import topics
from k2.schemas.feed.model import ExchangeFeed

_HEAP: Final = "-Xmx384m"
# Small and fast to start; the load of one machine needs no more.
_OPTIONS: Final = ("-Xms64m", _HEAP, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
_READY_TIMEOUT: Final = 90.0
_LOGGING: Final = """\
rootLogger.level=WARN
rootLogger.appenderRef.stdout.ref=stdout
appender.stdout.type=Console
appender.stdout.name=stdout
appender.stdout.layout.type=PatternLayout
appender.stdout.layout.pattern=%d{ISO8601} %p %m (%c)%n
"""


class BrokerFailed(RuntimeError):
    """The broker failed to start; the message has the reason."""


def properties(folder: Path, port: int, controller_port: int) -> str:
    """Return the broker's configuration file."""
    values = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller_port}",
        "controller.listener.names": "CONTROLLER",
        "controller.quorum.bootstrap.servers": f"{HOST}:{controller_port}",
        "log.dirs": folder / "data",
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 1,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 1,
        "num.network.threads": 2,
        "num.io.threads": 2,
        "message.max.bytes": topics.MAX_MESSAGE_BYTES,
        "replica.fetch.max.bytes": topics.MAX_MESSAGE_BYTES,
        "auto.create.topics.enable": "false",
        "group.initial.rebalance.delay.ms": 0,
    }
    return "".join(f"{key}={value}\n" for key, value in values.items())


def prepare(java: Java, folder: Path, port: int, controller_port: int) -> None:
    """Write the configuration, and format the storage if it is new. Raises `BrokerFailed`."""
    folder.mkdir(parents=True, exist_ok=True)
    configuration = folder / "server.properties"
    configuration.write_text(properties(folder, port, controller_port), "utf-8")
    (folder / "log4j2.properties").write_text(_LOGGING, "utf-8")
    if (folder / "data" / "meta.properties").exists():
        return
    if any((folder / "data").glob("*-[0-9]*")):
        raise BrokerFailed(
            f"{folder}/data/meta.properties is missing; restore it, or move {folder} away to start with an empty broker"
        )
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    command = [*_java(java, folder), "kafka.tools.StorageTool", "format", "--standalone"]
    done = subprocess.run(
        [*command, f"--cluster-id={cluster}", "-c", configuration], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BrokerFailed(f"{folder} cannot be formatted: {_reason(done.stderr or done.stdout)}")


def child(java: Java, folder: Path, log: Path) -> Child:
    """Return the broker as a child process."""
    return Child("broker", [*_java(java, folder), "kafka.Kafka", str(folder / "server.properties")], {}, log)


async def ready(broker: Child, port: int) -> AdminClient:
    """Wait for the broker, and return an admin client. Raises `BrokerFailed` with the broker's last log line."""
    admin = AdminClient({"bootstrap.servers": f"{HOST}:{port}", "log_level": 0, "reconnect.backoff.max.ms": 500})
    deadline = asyncio.get_running_loop().time() + _READY_TIMEOUT
    while broker.alive and asyncio.get_running_loop().time() < deadline:
        try:
            await asyncio.to_thread(admin.list_topics, timeout=1.0)
        except KafkaException:
            await asyncio.sleep(0.1)
        else:
            return admin
    raise BrokerFailed(f"the broker did not start: {broker.last_log_line() or 'its log is empty'}")


async def create_topics(admin: AdminClient, feeds: Iterable[ExchangeFeed]) -> None:
    """Create the missing topics of the feeds. Raises `BrokerFailed`."""
    topics_by_name = {topic.topic: topic for feed in feeds for topic in _topics(feed)}
    for name, future in admin.create_topics(list(topics_by_name.values())).items():
        try:
            await asyncio.to_thread(future.result, 30.0)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise BrokerFailed(f"topic {name} cannot be created: {error.args[0].str()}") from error


def _topics(feed: ExchangeFeed) -> list[NewTopic]:
    specs = topics.feed_topics(feed, dead_letter_retention=feed.spec.kafka.retention)
    return [NewTopic(topic.name, topic.partitions, 1, config=dict(topic.config)) for topic in specs]


def _java(java: Java, folder: Path) -> list[str]:
    logging = f"-Dlog4j2.configurationFile={folder / 'log4j2.properties'}"
    path = class_path()
    return [str(java.path), *_OPTIONS, *class_data.options(java, path), logging, "-cp", path]


def class_path() -> str:
    """Return the class path of the broker."""
    return ":".join(map(str, classpath(BROKER)))


def _reason(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith(("Picked up", "\tat "))]
    return lines[-1][:300] if lines else "no error message"
