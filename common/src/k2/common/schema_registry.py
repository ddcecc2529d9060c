"""The schema registry, as K2 uses it: register once, hold BACKWARD, look ids up. Any Confluent-compatible one."""

from typing import Final

from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError
from httpx2 import HTTPError

from k2.common.validation_errors import redacted

COMPATIBILITY: Final = "BACKWARD"
_ABSENT: Final = 404
_INCOMPATIBLE: Final = 409
_FAILURES: Final = (OSError, HTTPError, SchemaRegistryError)  # HTTPError: confluent-kafka's client lets it through


class RegistryUnavailable(ConnectionError):
    """The registry did not answer, or answered with an error that is not about our schema."""


class IncompatibleSchema(ValueError):
    """The registry refuses a schema, because records written before could not be read with it."""


class Registry:
    """A client of one registry. Every call may raise `RegistryUnavailable`."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client = SchemaRegistryClient({"url": url, "timeout": 10, "max.retries": 2})

    def register(self, subject: str, text: str) -> int:
        """The id of `text` under `subject`, registered if it was not. Raises `IncompatibleSchema`.

        A new subject takes its first schema as it is; from then on it accepts only what can read all before.
        """
        try:
            schema_id: int = self._client.register_schema(subject, Schema(text, "AVRO"))
            if self._compatibility(subject) != COMPATIBILITY:
                self._client.set_compatibility(subject, COMPATIBILITY)
        except _FAILURES as error:
            if getattr(error, "http_status_code", 0) == _INCOMPATIBLE:
                raise IncompatibleSchema(f"{subject}: {error}") from error
            raise self._unavailable(error) from error
        return schema_id

    def versions(self, subject: str) -> list[int]:
        """The versions of `subject`; none if it does not exist."""
        try:
            found: list[int] = self._client.get_versions(subject)
        except _FAILURES as error:
            if getattr(error, "http_status_code", 0) == _ABSENT:
                return []
            raise self._unavailable(error) from error
        return found

    def version(self, subject: str, version: int) -> tuple[int, str]:
        """Id and text of one version of `subject`."""
        try:
            found = self._client.get_version(subject, version)
        except _FAILURES as error:
            raise self._unavailable(error) from error
        return int(found.schema_id or 0), str(found.schema.schema_str)

    def _compatibility(self, subject: str) -> str:
        try:
            level: str = self._client.get_compatibility(subject)
        except SchemaRegistryError as error:
            if error.http_status_code != _ABSENT:
                raise
            return "NONE"
        return level

    def _unavailable(self, error: Exception) -> RegistryUnavailable:
        return RegistryUnavailable(redacted(f"schema registry at {self._url}: {error}"))


class SchemaBook:
    """Every schema of one subject by id. A version never changes, so each is fetched once."""

    def __init__(self, registry: Registry, subject: str) -> None:
        self._registry = registry
        self._subject = subject
        self._known: dict[int, tuple[int, str]] = {}

    def schemas(self) -> dict[int, str]:
        """The schemas registered by now. Raises `RegistryUnavailable`."""
        for version in self._registry.versions(self._subject):
            if version not in self._known:
                self._known[version] = self._registry.version(self._subject, version)
        return dict(self._known.values())
