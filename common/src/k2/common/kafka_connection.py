"""How to reach Kafka: PLAINTEXT, SSL with a client certificate, or SASL_SSL with SCRAM-SHA-512.

One model, from which the settings of librdkafka and of Kafka's Java client follow. Passwords and keys stay in files:
this object, Spark's options and what is printed of them hold paths only, and every new client reads the files again.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from k2.common.validation_errors import ABSENT, Problem

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
    from confluent_kafka.admin import AdminClient

_SCRAM: Final = "SCRAM-SHA-512"
_PROVIDER: Final = "directory"  # Kafka's own: reads the value of a setting from a file
_IN_JAAS: Final = frozenset('"\\\n\r')  # what cannot stand between the quotes of Java's login configuration
_NOT_IN_PATH: Final = frozenset(":}\n")  # what separates the parts of a reference to a file


class SecurityProtocol(StrEnum):
    """How connections are encrypted and clients identified."""

    PLAINTEXT = "PLAINTEXT"
    SSL = "SSL"
    SASL_SSL = "SASL_SSL"


@dataclass(frozen=True, slots=True)
class KafkaConnection:
    """Addresses of Kafka, and the files that a client identifies itself and the brokers with."""

    bootstrap: str  # host:port, comma separated
    protocol: SecurityProtocol = SecurityProtocol.PLAINTEXT
    ca_file: str = ""
    certificate_file: str = ""
    key_file: str = ""
    username: str = ""
    password_file: str = ""

    def __str__(self) -> str:
        """Return the addresses."""
        return self.bootstrap

    @property
    def restriction(self) -> str:
        """Say after a topic that was not found why it may exist: brokers do not list what a client may not describe."""
        match self.protocol:
            case SecurityProtocol.SASL_SSL:
                return f" that the user {self.username} may describe"
            case SecurityProtocol.SSL:
                return " that this client's certificate may describe"
        return ""

    def problems(self, prefix: str = "K2_KAFKA_") -> Iterator[Problem]:
        """Yield what contradicts itself; `prefix` is that of the environment variables."""
        required = _REQUIRED[self.protocol]
        for name, allowed in FIELDS.items():
            value, variable = getattr(self, name), f"{prefix}{name.upper()}"
            if name in required and not value:
                yield Problem(variable, ABSENT, f"required with {prefix}SECURITY_PROTOCOL={self.protocol}: {allowed}")
            elif value and self.protocol not in _USED_BY[name]:
                needed = " or ".join(_USED_BY[name])
                yield Problem(
                    variable,
                    value,
                    f"not used by {prefix}SECURITY_PROTOCOL={self.protocol}: set {needed}, or remove it",
                )
            elif name.endswith("_file") and value and (not Path(value).is_absolute() or _NOT_IN_PATH & set(value)):
                yield Problem(variable, value, "must be an absolute path without : and }")
        if _IN_JAAS & set(self.username):
            yield Problem(f"{prefix}USERNAME", self.username, "must have no quotes, backslashes and line breaks")
        if bool(self.certificate_file) != bool(self.key_file):
            name, other = ("key_file", "certificate") if self.certificate_file else ("certificate_file", "key")
            yield Problem(f"{prefix}{name.upper()}", ABSENT, f"required, because a client's {other} is given")

    def version(self) -> tuple[Any, ...]:
        """Return what differs after the files have changed; a file that cannot be read has none."""
        return tuple(_version(path) for name in FIELDS if name.endswith("_file") and (path := getattr(self, name)))

    def client(self, errors: "ConnectionErrors | None" = None) -> dict[str, Any]:
        """Return the settings for librdkafka, with what the files hold now; `errors` are those of its connections.

        Raises `KafkaException` for a file that cannot be read, as a client does for Kafka that it cannot reach.
        """
        for name in ("ca_file", "certificate_file", "key_file"):
            if path := getattr(self, name):
                _read(name, path)
        settings = librdkafka(self, self._password())
        return settings if errors is None else {**settings, "error_cb": errors}

    def spark_options(self) -> dict[str, str]:
        """Return the options of Spark's Kafka source. They hold no password, only where Kafka's client finds it.

        Raises `KafkaException` as `client` does.
        """
        self._password()
        return {f"kafka.{key}": value for key, value in java(self).items()}

    def _password(self) -> str:
        if not self.password_file:
            return ""
        password = _read("password_file", self.password_file).decode("utf-8", "replace")
        if not password or _IN_JAAS & set(password):
            allowed = "must have no quotes, backslashes and line breaks; write it with printf, not with echo"
            raise _unreadable("password_file", self.password_file, allowed if password else "is empty")
        return password


FIELDS: Final = {
    "ca_file": "the file of the certificate authorities of the brokers (PEM)",
    "certificate_file": "the file of the client's certificate (PEM)",
    "key_file": "the file of its key (PEM, PKCS #8, not encrypted)",
    "username": "the user name",
    "password_file": "the file of the password",
}
_REQUIRED: Final = {
    SecurityProtocol.PLAINTEXT: (),
    SecurityProtocol.SSL: ("ca_file",),
    SecurityProtocol.SASL_SSL: ("ca_file", "username", "password_file"),
}
_USED_BY: Final = {
    "ca_file": (SecurityProtocol.SSL, SecurityProtocol.SASL_SSL),
    "certificate_file": (SecurityProtocol.SSL,),
    "key_file": (SecurityProtocol.SSL,),
    "username": (SecurityProtocol.SASL_SSL,),
    "password_file": (SecurityProtocol.SASL_SSL,),
}


def librdkafka(connection: KafkaConnection, password: str) -> dict[str, str]:
    """Return the settings of librdkafka."""
    settings = {"bootstrap.servers": connection.bootstrap}
    if connection.protocol is SecurityProtocol.PLAINTEXT:
        return settings
    settings |= {"security.protocol": connection.protocol.value, "ssl.ca.location": connection.ca_file}
    if connection.certificate_file:
        settings |= {
            "ssl.certificate.location": connection.certificate_file,
            "ssl.key.location": connection.key_file,
        }
    if connection.protocol is SecurityProtocol.SASL_SSL:
        settings |= {"sasl.mechanism": _SCRAM, "sasl.username": connection.username, "sasl.password": password}
    return settings


def java(connection: KafkaConnection) -> dict[str, str]:
    """Return the settings of Kafka's Java client, which reads the files itself."""
    settings = {"bootstrap.servers": connection.bootstrap}
    if connection.protocol is SecurityProtocol.PLAINTEXT:
        return settings
    settings |= {
        "security.protocol": connection.protocol.value,
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": connection.ca_file,
    }
    if connection.certificate_file or connection.password_file:
        settings |= {
            "config.providers": _PROVIDER,
            f"config.providers.{_PROVIDER}.class": "org.apache.kafka.common.config.provider.DirectoryConfigProvider",
        }
    if connection.certificate_file:
        settings |= {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.certificate.chain": _reference(connection.certificate_file),
            "ssl.keystore.key": _reference(connection.key_file),
        }
    if connection.protocol is SecurityProtocol.SASL_SSL:
        login = "org.apache.kafka.common.security.scram.ScramLoginModule required"
        settings |= {
            "sasl.mechanism": _SCRAM,
            "sasl.jaas.config": f'{login} username="{connection.username}" '
            f'password="{_reference(connection.password_file)}";',
        }
    return settings


class ConnectionErrors:
    """What connections of a client failed with: an exception says only that no broker was reached.

    Give it to `KafkaConnection.client`, and ask it for the message of an exception of the same client.
    """

    def __init__(self) -> None:
        self._newest: KafkaError | None = None

    def __call__(self, error: "KafkaError") -> None:
        """Remember an error of a connection."""
        # A broker that refuses a client's certificate says so only in the alert with which it closes the connection.
        if error.name() in _TELLING or "SSL routines" in error.str():
            self._newest = error

    def describe(self, error: "KafkaException", client: "Consumer | Producer | AdminClient | None" = None) -> str:
        """Return why a call failed; the `client` tells the errors of its connections only when it is polled."""
        if client is not None:
            client.poll(0)
        return str((self._newest or error.args[0]).str())


_TELLING: Final = frozenset({"_AUTHENTICATION", "_SSL"})


def _reference(path: str) -> str:
    file = Path(path)
    return f"${{{_PROVIDER}:{file.parent}:{file.name}}}"


def _version(path: str) -> tuple[int, int] | None:
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino


def _read(name: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise _unreadable(name, path, f"cannot be read: {error.strerror}") from error


def _unreadable(name: str, path: str, why: str) -> "KafkaException":
    from confluent_kafka import KafkaError, KafkaException  # not imported by commands that only read tables

    message = f"the {name.replace('_', ' ')} of Kafka's client, {path}, {why}"
    return KafkaException(KafkaError(KafkaError._INVALID_ARG, message))  # noqa: SLF001 - its codes begin so
