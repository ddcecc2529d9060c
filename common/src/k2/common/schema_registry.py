"""Client of a Confluent-compatible schema registry: register schemas under BACKWARD compatibility, look up ids."""

from typing import Any, Final

from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError
from httpx2 import HTTPError

from k2.common.decimal_scales import scale_changes
from k2.common.registry_connection import RegistryConnection
from k2.common.validation_errors import redact

COMPATIBILITY: Final = "BACKWARD"
_ABSENT: Final = 404
_INCOMPATIBLE: Final = 409
_FAILURES: Final = (OSError, HTTPError, SchemaRegistryError)  # confluent-kafka's client does not wrap HTTPError


class RegistryUnavailable(ConnectionError):
    """The registry did not answer, or answered with an error unrelated to the schema."""


class IncompatibleSchema(ValueError):
    """The registry rejected a schema that cannot read records written with earlier versions."""


class Registry:
    """A client of one registry. Every call may raise `RegistryUnavailable`."""

    def __init__(self, connection: RegistryConnection) -> None:
        self._connection = connection
        self._current: tuple[Any, SchemaRegistryClient] | None = None

    @property
    def _client(self) -> SchemaRegistryClient:
        """The client; a new one after a file of its identity has changed. Raises `OSError` for a missing file."""
        version = self._connection.version()
        if self._current is None or self._current[0] != version:
            self._current = version, SchemaRegistryClient(self._connection.settings())
        return self._current[1]

    def register(self, subject: str, text: str) -> int:
        """Register the Avro schema `text` under `subject` unless it is there already, and return its id.

        The subject's compatibility is set to BACKWARD, so that later versions can read all earlier records.

        Raises `IncompatibleSchema` if the schema cannot read records of an earlier version, which includes decimals of
        another scale, and `RegistryUnavailable`.
        """
        self._check_scales(subject, text)
        try:
            schema_id: int = self._client.register_schema(subject, Schema(text, "AVRO"))
            if self._compatibility(subject) != COMPATIBILITY:
                self._client.set_compatibility(subject, COMPATIBILITY)
        except _FAILURES as error:
            if getattr(error, "http_status_code", 0) == _INCOMPATIBLE:
                raise IncompatibleSchema(f"{subject}: {error}") from error
            raise self._unavailable(error) from error
        return schema_id

    def _check_scales(self, subject: str, text: str) -> None:
        """Raise `IncompatibleSchema` for a change of scale: registries follow Avro's rules, which allow it."""
        for number in self.versions(subject):
            if changes := scale_changes(text, self.version(subject, number)[1]):
                raise IncompatibleSchema(f"{subject}: version {number} has decimals of another scale ({changes[0]})")

    def versions(self, subject: str) -> list[int]:
        """Return the version numbers of `subject`; an empty list if the subject does not exist."""
        try:
            numbers: list[int] = self._client.get_versions(subject)
        except _FAILURES as error:
            if getattr(error, "http_status_code", 0) == _ABSENT:
                return []
            raise self._unavailable(error) from error
        return numbers

    def version(self, subject: str, version: int) -> tuple[int, str]:
        """Return id and text of one version of `subject`."""
        try:
            registered = self._client.get_version(subject, version)
        except _FAILURES as error:
            raise self._unavailable(error) from error
        return int(registered.schema_id or 0), str(registered.schema.schema_str)

    def _compatibility(self, subject: str) -> str:
        try:
            level: str = self._client.get_compatibility(subject)
        except SchemaRegistryError as error:
            if error.http_status_code != _ABSENT:
                raise
            return "NONE"
        return level

    def _unavailable(self, error: Exception) -> RegistryUnavailable:
        return RegistryUnavailable(redact(f"schema registry at {self._connection.url}: {error}"))


class SchemaCache:
    """Cache of one subject's schemas by id. Versions are immutable, so each is fetched once."""

    def __init__(self, registry: Registry, subject: str) -> None:
        self._registry = registry
        self._subject = subject
        self._by_version: dict[int, tuple[int, str]] = {}

    def schemas(self) -> dict[int, str]:
        """Return every registered schema by id, fetching new versions. Raises `RegistryUnavailable`."""
        for version in self._registry.versions(self._subject):
            if version not in self._by_version:
                self._by_version[version] = self._registry.version(self._subject, version)
        return dict(self._by_version.values())
