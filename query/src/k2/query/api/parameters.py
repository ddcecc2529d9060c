"""Query parameters shared by the routes, and their parsing."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from k2.common.validation_errors import format_value
from k2.query import times
from k2.query.errors import BadQuery
from k2.query.times import AsOf
from k2.schemas.channels import CHANNELS, Channel

_MAX_LENGTH: Final = 64
_SETTLE_TIME: Final = timedelta(minutes=1)  # a commit with an earlier timestamp may still arrive within this time
_TIME: Final = "RFC 3339 with its offset, such as 2026-01-31T14:00:00Z"

Symbol = Annotated[
    str,
    Field(max_length=_MAX_LENGTH, description="such as BTCUSDT, btc-usdt or BTC/USDT, or as the exchange spells it"),
]
Exchange = Annotated[str, Field(max_length=_MAX_LENGTH, description="name of the exchange")]
Time = Annotated[str, Field(max_length=_MAX_LENGTH, description=_TIME, json_schema_extra={"format": "date-time"})]
AsOfText = Annotated[
    str,
    Field(
        max_length=_MAX_LENGTH,
        description=f"read the tables as of a snapshot id, a tag such as day-2026-01-31, or a time: {_TIME}",
    ),
]


_CHANNELS: Final = {channel.name: channel for channel in CHANNELS}
ChannelName = Annotated[str, Field(max_length=_MAX_LENGTH, description=", ".join(_CHANNELS))]


class Parameters(BaseModel):
    """Base of query parameters. Unknown ones are rejected: a misspelt filter must not be ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class AsOfParameters(Parameters):
    """Parameters of a query with time travel."""

    as_of: AsOfText | None = None

    @property
    def as_of_value(self) -> AsOf | None:
        """The parsed `as_of`: a time, a snapshot id or a tag."""
        return times.parse_as_of(self.as_of) if self.as_of is not None else None

    @property
    def immutable(self) -> bool:
        """Whether no later commit can change the result."""
        as_of = self.as_of_value
        return isinstance(as_of, int) or (isinstance(as_of, datetime) and as_of < datetime.now(UTC) - _SETTLE_TIME)


class RangeParameters(AsOfParameters):
    """Parameters of a query over a time range."""

    exchange: Exchange | None = None
    start: Time | None = None
    end: Time | None = None

    @property
    def start_time(self) -> datetime | None:
        """The inclusive start."""
        return parse_time(self.start, "start")

    @property
    def end_time(self) -> datetime | None:
        """The exclusive end."""
        return parse_time(self.end, "end")


def parse_channel(name: str) -> Channel:
    """Return a channel by its name. Raises `BadQuery`."""
    if name not in _CHANNELS:
        raise BadQuery(f"channel: {format_value(name)} is no channel; use one of {', '.join(_CHANNELS)}")
    return _CHANNELS[name]


def parse_time(text: str | None, name: str) -> datetime | None:
    """Parse an RFC 3339 time. Raises `BadQuery` that names the parameter."""
    if text is None:
        return None
    try:
        return times.parse(text)
    except BadQuery as error:
        raise BadQuery(f"{name}: {error}") from None
