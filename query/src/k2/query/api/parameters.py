"""What the routes can be asked, and how it is read."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from k2.query import times
from k2.query.errors import BadQuery
from k2.query.times import AsOf

_LONG: Final = 64
_SETTLED: Final = timedelta(minutes=1)  # a commit that carries an earlier time may still come for so long
_TIME: Final = "RFC 3339 with its offset, such as 2026-01-31T14:00:00Z"

Symbol = Annotated[str, Field(max_length=_LONG, description="such as BTCUSDT")]
Exchange = Annotated[str, Field(max_length=_LONG, description="such as binance")]
Time = Annotated[str, Field(max_length=_LONG, description=_TIME, json_schema_extra={"format": "date-time"})]
Moment = Annotated[
    str,
    Field(
        max_length=_LONG,
        description=f"the tables as they were then: a snapshot id, a tag such as day-2026-01-31, or {_TIME}",
    ),
]


class Parameters(BaseModel):
    """Parameters of an address. One that is not known is refused: a misspelt filter must not filter nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class AsOfParameters(Parameters):
    """What a question to tables of any time can say."""

    as_of: Moment | None = None

    @property
    def then(self) -> AsOf | None:
        """The time or the snapshot."""
        return times.parse_as_of(self.as_of) if self.as_of is not None else None

    @property
    def settled(self) -> bool:
        """Whether no commit can change what the tables were then."""
        then = self.then
        return isinstance(then, int) or (isinstance(then, datetime) and then < datetime.now(UTC) - _SETTLED)


class RangeParameters(AsOfParameters):
    """What a question about a range of time can say."""

    exchange: Exchange | None = None
    start: Time | None = None
    end: Time | None = None

    @property
    def first(self) -> datetime | None:
        """The first moment that counts."""
        return moment(self.start, "start")

    @property
    def last(self) -> datetime | None:
        """The first moment that does not count any more."""
        return moment(self.end, "end")


def moment(text: str | None, name: str) -> datetime | None:
    """The moment of an RFC 3339 time. Raises `BadQuery` that names the parameter."""
    if text is None:
        return None
    try:
        return times.parse(text)
    except BadQuery as error:
        raise BadQuery(f"{name}: {error}") from None
