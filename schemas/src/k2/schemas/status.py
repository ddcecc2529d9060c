"""The documents that ingest and jobs processes serve at `/status`.

The processes build them; the operator and `k2 status` read them. Fields have defaults, so that a reader also accepts
the document of an older version. JSON keys are the camelCase of the field names; times are RFC 3339 in UTC.
"""

import msgspec

from k2.schemas.sharding import Counts
from k2.schemas.states import CircuitState


class GapCounts(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Gaps of a shard since its start, by state."""

    open: int = 0
    detected: int = 0
    repaired: int = 0
    unrecoverable: int = 0


class SymbolStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One symbol: records received since the start, newest price as a decimal, and the state of its subscription."""

    received: int = 0
    price: str = ""  # empty before the first trade, and for channels without one price
    state: str = ""  # a `SymbolState`; empty in the document of an older version
    reason: str = ""  # of that state: the exchange's words for a refusal


class InstrumentsStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The exchange's instrument list as a process knows it."""

    read_at: str | None = None  # null before the first; of a cached list, the time of its newest change
    age_seconds: float = 0.0
    cached: bool = False  # an earlier process read it: the exchange does not answer
    error: str = ""  # why the last attempt to read it failed, for people
    halted: tuple[str, ...] = ()  # symbols of the shard that the list has as halted
    matching: int | None = None  # instruments that the feed's selector matches; null without a selector
    left_out: tuple[str, ...] = ()  # those of them beyond `maxSymbols`


class ShardStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`/status` of an ingest process: one channel of a shard."""

    shard: str
    connected: bool
    feed: str = ""
    exchange: str = ""
    channel: str = "trades"
    endpoint: str = ""
    message: str = ""  # the last error, for people
    resume: str = ""  # what the start could not resume from, for people
    uptime_seconds: float = 0.0
    messages_per_second: float = 0.0
    loop_lag_seconds: float = 0.0  # by which timers of its event loop are late, smoothed
    last_message_time: str | None = None
    reconnects: int = 0
    received: int = 0
    delivered: int = 0
    in_flight: int = 0
    delivery_failures: int = 0
    unaccepted: int = 0  # records that Kafka rejected and has not accepted since
    duplicates: int = 0
    backfilled: int = 0
    gaps: GapCounts = GapCounts()
    never_issued: int = 0  # gaps since the start whose ids the exchange never issued
    dead_letters: dict[str, int] = {}  # by error
    errors: dict[str, int] = {}  # by kind
    refused: dict[str, str] = {}  # symbols that the exchange rejected, and its error messages
    circuit: CircuitState = CircuitState.CLOSED
    resident_bytes: int = 0
    clock_offset_seconds: float | None = None  # how far this machine's clock is ahead of the exchange's; null: unknown
    clock_wrong: bool = False  # by more than a second, surely
    symbols: dict[str, SymbolStatus] = {}
    states: dict[str, int] = {}  # wanted symbols by state
    instruments: InstrumentsStatus = InstrumentsStatus()
    shards: Counts = ()  # the numbers of shards of which it carries its symbols; empty: as its feed says


class AuditResult(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Result of the newest audit for a feed's symbols."""

    incomplete_hours: int
    checked_at: str | None = None


class LayerStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One layer of a feed, in a jobs process."""

    state: str
    message: str = ""
    rows: int = 0
    epoch: int = -1
    last_commit_time: str | None = None
    freshness_seconds: float | None = None  # age of the newest row; null before the first
    batches_behind: int = 0
    dead_letters: dict[str, int] = {}  # by error category
    duplicates_dropped: int = 0
    audit: AuditResult | msgspec.UnsetType = msgspec.UNSET  # only of Gold, after the first audit


class JobsStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`/status` of a jobs process: layers by feed and name.

    The name is the layer's, preceded by the channel's for every channel but trades: `gold`, `book/gold`.
    """

    feeds: dict[str, dict[str, LayerStatus]] = {}
