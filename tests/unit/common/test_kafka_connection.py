"""One model of how Kafka is reached, for librdkafka and for Java; no password where it could be seen."""

from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from k2.common.kafka_connection import ConnectionErrors, KafkaConnection, SecurityProtocol, java, librdkafka
from k2.common.platform import Platform
from k2.common.validation_errors import InvalidSpec

PASSWORD = "a-secret"
SCRAM = {
    "kafka_security_protocol": "SASL_SSL",
    "kafka_ca_file": "/etc/k2/kafka/ca.crt",
    "kafka_username": "k2-jobs",
    "kafka_password_file": "/etc/k2/kafka/password",
}
TLS = {
    "kafka_security_protocol": "SSL",
    "kafka_ca_file": "/etc/k2/kafka/ca.crt",
    "kafka_certificate_file": "/etc/k2/kafka/user.crt",
    "kafka_key_file": "/etc/k2/kafka/user.key",
}


def test_plaintext_is_the_address_alone() -> None:
    connection = KafkaConnection("a:9092,b:9092")
    assert connection.client() == java(connection) == {"bootstrap.servers": "a:9092,b:9092"}
    assert str(connection) == "a:9092,b:9092"


def test_tls_with_a_client_certificate() -> None:
    connection = Platform.read(**TLS).kafka
    assert librdkafka(connection, "") == {
        "bootstrap.servers": "127.0.0.1:9092",
        "security.protocol": "SSL",
        "ssl.ca.location": "/etc/k2/kafka/ca.crt",
        "ssl.certificate.location": "/etc/k2/kafka/user.crt",
        "ssl.key.location": "/etc/k2/kafka/user.key",
    }
    assert java(connection) == {
        "bootstrap.servers": "127.0.0.1:9092",
        "security.protocol": "SSL",
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": "/etc/k2/kafka/ca.crt",
        "config.providers": "directory",
        "config.providers.directory.class": "org.apache.kafka.common.config.provider.DirectoryConfigProvider",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.certificate.chain": "${directory:/etc/k2/kafka:user.crt}",
        "ssl.keystore.key": "${directory:/etc/k2/kafka:user.key}",
    }


def test_scram_gives_java_the_place_of_the_password_and_not_the_password() -> None:
    connection = Platform.read(**SCRAM).kafka
    assert librdkafka(connection, PASSWORD) == {
        "bootstrap.servers": "127.0.0.1:9092",
        "security.protocol": "SASL_SSL",
        "ssl.ca.location": "/etc/k2/kafka/ca.crt",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "k2-jobs",
        "sasl.password": PASSWORD,
    }
    assert java(connection)["sasl.jaas.config"] == (
        "org.apache.kafka.common.security.scram.ScramLoginModule required "
        'username="k2-jobs" password="${directory:/etc/k2/kafka:password}";'
    )


@pytest.fixture
def scram(tmp_path: Path) -> Callable[[bytes], KafkaConnection]:
    """A connection whose password file has this content."""

    def with_password(content: bytes) -> KafkaConnection:
        (tmp_path / "ca.crt").write_text("no certificate")
        (tmp_path / "password").write_bytes(content)
        return KafkaConnection(
            "127.0.0.1:1", SecurityProtocol.SASL_SSL, ca_file=f"{tmp_path}/ca.crt", username="k2",
            password_file=f"{tmp_path}/password",
        )  # fmt: skip

    return with_password


def test_each_client_reads_the_password_again_and_nothing_keeps_it(scram: Callable[[bytes], KafkaConnection]) -> None:
    connection = scram(PASSWORD.encode())
    assert connection.client()["sasl.password"] == PASSWORD
    assert scram(b"rotated").client()["sasl.password"] == "rotated"
    assert PASSWORD not in repr(connection)
    scram(PASSWORD.encode())
    assert PASSWORD not in str(connection.spark_options())


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty"), (b"a\n", "printf, not with echo"), (b'a"b', "quotes"), (b"a\\b", "backslashes")],
)
def test_a_password_that_java_would_read_otherwise_is_refused(
    scram: Callable[[bytes], KafkaConnection], content: bytes, message: str
) -> None:
    for settings in (scram(content).client, scram(content).spark_options):
        with pytest.raises(KafkaException, match=message) as refused:
            settings()
        assert "password file of Kafka's client" in str(refused.value)


@pytest.mark.parametrize("name", ["ca.crt", "password"])
def test_a_missing_file_is_named(scram: Callable[[bytes], KafkaConnection], tmp_path: Path, name: str) -> None:
    connection = scram(PASSWORD.encode())
    (tmp_path / name).unlink()
    with pytest.raises(KafkaException, match=f"{name}, cannot be read: No such file or directory"):
        connection.client()


def test_a_ca_file_without_a_certificate_is_named_by_the_client(scram: Callable[[bytes], KafkaConnection]) -> None:
    errors = ConnectionErrors()
    with pytest.raises(KafkaException) as refused:
        AdminClient(scram(PASSWORD.encode()).client(errors))
    assert "ssl.ca.location" in errors.describe(refused.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kafka_security_protocol": "SSL"}, "K2_KAFKA_CA_FILE: required with K2_KAFKA_SECURITY_PROTOCOL=SSL"),
        (SCRAM | {"kafka_password_file": ""}, "K2_KAFKA_PASSWORD_FILE: required"),
        (SCRAM | {"kafka_username": ""}, "K2_KAFKA_USERNAME: required"),
        (SCRAM | {"kafka_ca_file": ""}, "K2_KAFKA_CA_FILE: required"),
        (SCRAM | {"kafka_ca_file": "ca.crt"}, "must be an absolute path"),
        (SCRAM | {"kafka_password_file": "/etc/k2:kafka"}, "without : and }"),
        (SCRAM | {"kafka_username": 'k2" password="x'}, "K2_KAFKA_USERNAME: .* quotes"),
        (SCRAM | {"kafka_security_protocol": "PLAINTEXT"}, "set SASL_SSL, or remove it"),
        (TLS | {"kafka_security_protocol": "PLAINTEXT"}, "set SSL or SASL_SSL, or remove it"),
        (TLS | {"kafka_key_file": ""}, "K2_KAFKA_KEY_FILE: required, because a client's certificate is given"),
        (TLS | {"kafka_certificate_file": ""}, "K2_KAFKA_CERTIFICATE_FILE: required"),
        (TLS | {"kafka_username": "k2"}, "K2_KAFKA_USERNAME: .* not used by K2_KAFKA_SECURITY_PROTOCOL=SSL"),
        ({"kafka_security_protocol": "SASL_PLAINTEXT"}, "K2_KAFKA_SECURITY_PROTOCOL"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidSpec, match=message):
        Platform.read(**settings)
