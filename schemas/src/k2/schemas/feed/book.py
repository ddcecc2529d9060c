"""The part of a feed that says how its order books are recorded."""

from typing import Annotated, Any

from pydantic import AfterValidator, Field, GetJsonSchemaHandler

from k2.schemas.feed.shards import AUTO, Part
from k2.schemas.values import seconds

SHORTEST, LONGEST = "1s", "1h"  # between snapshots: a second of the largest book is a megabyte


def _checked(value: str) -> str:
    if value == AUTO:
        return value
    try:
        is_within = seconds(SHORTEST) <= seconds(value) <= seconds(LONGEST)
    except ValueError as error:
        raise ValueError(f"must be {AUTO}, or a duration: {error}") from error
    if not is_within:
        raise ValueError(f"must be {AUTO}, or between {SHORTEST} and {LONGEST}")
    return value


class _Interval(AfterValidator):
    """A duration within bounds, or `auto`."""

    def __get_pydantic_json_schema__(self, schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return handler(schema) | {"x-k2-duration": (SHORTEST, LONGEST, AUTO)}


class Book(Part):
    """How order books are recorded."""

    depth: Annotated[int, Field(strict=True)] = Field(
        0, ge=0, le=2**31 - 1, description="Levels of a side, one of those that the exchange offers; 0: the deepest."
    )
    snapshot_interval: Annotated[str, _Interval(_checked)] = Field(
        AUTO, description="Between snapshot records; auto: when the changes since the last one are as large as it."
    )

    @property
    def options(self) -> dict[str, int]:
        """The options of the adapter of books; the interval in microseconds, 0 for `auto`."""
        interval = 0 if self.snapshot_interval == AUTO else round(seconds(self.snapshot_interval) * 1_000_000)
        return {"depth": self.depth, "snapshot_interval": interval}
