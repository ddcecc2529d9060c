"""The ExchangeFeed model: one exchange, its symbols, and how their trades are stored. Values are frozen and valid.

The same model validates files and generates the CRD. Every problem names its path, the value and what is allowed.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationError,
    model_validator,
)

from k2.common.validation_errors import InvalidSpec, Problem, from_pydantic
from k2.common.yaml_loader import load_document
from k2.schemas import topics
from k2.schemas.channels import CHANNELS, DEFAULT_CHANNELS, TRADES, Channel
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.exchanges.spec import MAX_ASSET, ExchangeSpec, SymbolName, UnknownPair
from k2.schemas.feed.book import Book
from k2.schemas.feed.shards import Autoscale, Part, Shards
from k2.schemas.sharding import Counts, is_carried, shard_of
from k2.schemas.values import seconds

API_VERSION: Final = "k2.marketdata.io/v1alpha1"
KIND: Final = "ExchangeFeed"
if TYPE_CHECKING:
    ExchangeName = str
    ChannelName = str
else:  # a type checker cannot read a Literal that is built at run time
    ExchangeName = Literal[tuple(EXCHANGES)]
    ChannelName = Literal[tuple(channel.name for channel in CHANNELS)]
MAX_SYMBOLS: Final = 1000
TRIGGERS_IN_RETENTION: Final = 10  # a layer that is this many batches behind must still find its input

_QUANTITY = r"^[0-9]{1,12}(\.[0-9]{1,6})?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"
_NAME = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
_PRINTABLE = re.compile(r"[!-~]+")
_STRICT = Field(strict=True)  # as the API server sees it: "2" is no integer, and 1 no boolean


@dataclass(frozen=True)
class _Check(AfterValidator):
    """A check in Python, with an extension of the JSON schema from which the CRD builds the same check."""

    note: tuple[str, ...] = ()

    def __get_pydantic_json_schema__(self, schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return handler(schema) | {self.note[0]: self.note[1:]}


def _duration(low: str, high: str) -> _Check:
    def check(value: str) -> str:
        if not seconds(low) <= seconds(value) <= seconds(high):
            raise ValueError(f"must be between {low} and {high}")
        return value

    return _Check(check, ("x-k2-duration", low, high))


_PATH: Final = re.compile(r"[A-Za-z0-9._~!$&()*+,;=:@%/-]*")
_FRAGMENT: Final = re.compile(r"[a-z0-9]{1,16}")  # the name of a protocol


def _url(*schemes: str, optional: bool = False) -> _Check:
    def check(value: str) -> str:
        if optional and not value:
            return value
        parts = urlsplit(value)
        if not _PRINTABLE.fullmatch(value):  # urlsplit silently drops line breaks
            raise ValueError("must contain only printable ASCII characters, no spaces or line breaks")
        if parts.scheme not in schemes or not parts.hostname or parts.port == 0:
            raise ValueError(f"must be a URL that begins with {' or '.join(f'{scheme}://' for scheme in schemes)}")
        if parts.username or parts.password:
            raise ValueError("must not contain a user name or password; public market data needs none")
        if "?" in value or parts.query:
            raise ValueError("must not contain a query: K2 appends paths and parameters of its own")
        if optional and "#" in value:
            raise ValueError("must not contain a fragment")
        if not _PATH.fullmatch(parts.path) or not (_FRAGMENT.fullmatch(parts.fragment) or "#" not in value):
            raise ValueError("must have a path of letters, digits and these: . _ ~ ! $ & ( ) * + , ; = : @ % / -")
        return value.rstrip("/")

    return _Check(check, ("x-k2-url", *schemes))


def _topic(value: str) -> str:
    if value in {".", ".."}:
        raise ValueError("not a valid Kafka topic name; use letters and digits too")
    if value.startswith(topics.RESERVED_PREFIXES):
        raise ValueError(f"names that begin with {' or '.join(topics.RESERVED_PREFIXES)} are reserved")
    return value


SYMBOLS_OR_SELECTOR: Final = "write either symbols or symbolSelector"
SELECTOR_RETAINS: Final = "the data of a feed with symbolSelector is not deleted with it; set deletionPolicy to Retain"

QuoteAsset = Annotated[str, Field(min_length=1, max_length=MAX_ASSET)]
Trigger = Annotated[str, _duration("100ms", "1h")]
Retention = Annotated[str, _duration("1m", "3650d")]
Integer = Annotated[int, _STRICT]
Boolean = Annotated[bool, _STRICT]
Topic = Annotated[str, Field(pattern=r"^[a-zA-Z0-9._-]{0,200}$"), AfterValidator(_topic)]
Quantity = Annotated[str, Field(pattern=_QUANTITY)]
WebsocketUrl = Annotated[str, _url("ws", "wss")]
HttpUrl = Annotated[str, _url("http", "https", optional=True)]


class ResourceAmounts(Part):
    """CPU and memory as Kubernetes quantities."""

    cpu: Quantity | None = None
    memory: Quantity | None = None


class Resources(Part):
    """Requests and limits of a pod."""

    requests: ResourceAmounts = ResourceAmounts()
    limits: ResourceAmounts = ResourceAmounts()


class Backfill(Part):
    """Repair of gaps over REST."""

    enabled: Boolean = True
    max_age: Retention = Field("7d", description="Gaps that ended longer ago are recorded but not repaired.")
    max_ids: Integer = Field(
        0, ge=0, le=2**31 - 1, description="Gaps of more ids are recorded but not repaired; 0: any number."
    )


class Ingest(Part):
    """Connections to the exchange."""

    shards: Shards = Field(
        1, description="Symbols are spread over this many connections; auto: as many as the load needs."
    )
    autoscale: Autoscale | None = None  # without a default in the API server: an earlier operator would refuse it
    redundancy: Integer = Field(1, ge=1, le=2, description="2: two independent connections per shard.")
    endpoints: tuple[WebsocketUrl, ...] = Field((), max_length=8, description="Base URLs in failover order.")
    rest_endpoint: HttpUrl = Field("", description="REST base URL for gap repair; empty: the exchange's own.")
    backfill: Backfill = Backfill()
    resources: Resources = Resources()


class Placement(Part):
    """Where the feed's pods run, Spark's included. A field that is set replaces the platform's default."""

    node_selector: dict[str, str] = {}  # noqa: RUF012 - pydantic copies it
    tolerations: tuple[dict[str, Any], ...] = ()
    affinity: dict[str, Any] = {}  # noqa: RUF012
    topology_spread_constraints: tuple[dict[str, Any], ...] = ()
    priority_class_name: str = ""


class Kafka(Part):
    """The feed's topics."""

    topic: Topic = Field("", description="Empty: market.crypto.trades.<exchange>.")
    partitions: Integer = Field(0, ge=0, le=1000, description="Of each topic; 0: the default.")
    retention: Retention = "168h"


class Layer(Part):
    """One medallion layer of the feed."""

    trigger: Trigger
    executors: Integer = Field(1, ge=0, le=32, description="0 runs the layer inside its driver.")
    resources: Resources = Resources()


class RetainedLayer(Layer):
    """A layer whose rows are deleted after a retention time."""

    retention: Retention


class Layers(Part):
    """Bronze, Silver and Gold of the feed."""

    topology: Literal["PerLayer", "Combined"] = "PerLayer"
    bronze: RetainedLayer = RetainedLayer(trigger="10s", retention="7d")
    silver: RetainedLayer = RetainedLayer(trigger="30s", retention="30d")
    gold: Layer = Layer(trigger="60s")

    @model_validator(mode="before")
    @classmethod
    def _fill_in_layers(cls, data: Any) -> Any:
        """Complete a partly specified layer with its defaults."""
        if not isinstance(data, dict):
            return data
        defaults = {
            "bronze": {"trigger": "10s", "retention": "7d"},
            "silver": {"trigger": "30s", "retention": "30d"},
            "gold": {"trigger": "60s"},
        }
        merged = dict(data)
        for layer, default in defaults.items():
            if isinstance(given := data.get(layer), dict):
                merged[layer] = default | given
        return merged

    @model_validator(mode="after")
    def _retention_outlives_triggers(self) -> "Layers":
        for layer in (self.bronze, self.silver):
            if seconds(layer.retention) < TRIGGERS_IN_RETENTION * seconds(layer.trigger):
                raise ValueError(
                    f"retention {layer.retention} must be at least {TRIGGERS_IN_RETENTION} times "
                    f"the trigger {layer.trigger}"
                )
        return self


class SymbolSelector(Part):
    """Which of the instruments that the exchange lists to collect; followed as the list changes."""

    quotes: tuple[QuoteAsset, ...] = Field(
        min_length=1, max_length=64, description="Quote currencies, by their common names, such as USDT."
    )
    exclude: tuple[str, ...] = Field(
        (), max_length=MAX_SYMBOLS, description="Symbols to leave out, in the exchange's own spelling."
    )
    max_symbols: Integer = Field(
        500, ge=1, le=MAX_SYMBOLS, description="Of more matching symbols, the last by name are left out."
    )


class FeedSpec(Part):
    """The desired state of a feed."""

    exchange: ExchangeName
    symbols: tuple[str, ...] | None = Field(None, min_length=1, max_length=MAX_SYMBOLS)
    symbol_selector: SymbolSelector | None = None
    channels: tuple[ChannelName, ...] | None = Field(
        None, min_length=1, max_length=len(CHANNELS), description="What to record of each symbol. None is trades alone."
    )
    book: Book | None = None  # without a default in the API server: an earlier operator would refuse it
    suspend: Boolean = False
    deletion_policy: Literal["Retain", "Delete"] = "Retain"
    rebuild_nonce: Integer | None = Field(
        None,
        ge=0,
        le=2**31 - 1,
        description="Another number builds Silver and Gold again from Bronze, once. None is 0.",
    )
    ingest: Ingest = Ingest()
    placement: Placement = Placement()
    kafka: Kafka = Kafka()
    layers: Layers = Layers()

    @model_validator(mode="after")
    def _symbols_or_selector(self) -> "FeedSpec":
        if (self.symbols is None) == (self.symbol_selector is None):
            raise ValueError(SYMBOLS_OR_SELECTOR)
        if self.symbol_selector is not None and self.deletion_policy == "Delete":
            raise ValueError(SELECTOR_RETAINS)
        return self


class Metadata(BaseModel):
    """The fields of Kubernetes' object metadata that K2 uses; others are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str = Field(pattern=_NAME, max_length=40)
    namespace: str = Field("default", pattern=_NAME, max_length=63)


class ExchangeFeed(BaseModel):
    """One feed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    api_version: Literal["k2.marketdata.io/v1alpha1"] = Field(alias="apiVersion")
    kind: Literal["ExchangeFeed"]
    metadata: Metadata
    spec: FeedSpec
    status: Any = Field(None, exclude=True, repr=False)

    @classmethod
    def from_yaml(cls, text: str | bytes) -> "ExchangeFeed":
        """Parse a YAML file. Raises `InvalidSpec` with every problem."""
        return cls.from_body(load_document(text))

    @classmethod
    def from_body(cls, body: Any) -> "ExchangeFeed":
        """Parse an API server's object. Raises `InvalidSpec` with every problem."""
        if not isinstance(body, dict):
            raise InvalidSpec([Problem("", body, f"the file must contain one {KIND} object")])
        try:
            feed = cls.model_validate(body)
        except ValidationError as error:
            raise InvalidSpec(from_pydantic(error)) from None
        if problems := [*_symbol_problems(feed), *_channel_problems(feed)]:
            raise InvalidSpec(problems)
        return feed

    @property
    def name(self) -> str:
        """The object's name."""
        return self.metadata.name

    @property
    def exchange_spec(self) -> ExchangeSpec:
        """The specification of the feed's exchange."""
        return EXCHANGES[self.spec.exchange]

    @property
    def names(self) -> tuple[SymbolName, ...]:
        """The feed's symbols; none if it selects them from the exchange's list."""
        return tuple(SymbolName(symbol, self.exchange_spec.symbol(symbol)) for symbol in self.spec.symbols or ())

    @property
    def channels(self) -> tuple[Channel, ...]:
        """The channels that the feed records, in the order of all channels."""
        if (names := self.spec.channels) is None:
            return DEFAULT_CHANNELS
        return tuple(channel for channel in CHANNELS if channel.name in names)

    def options(self, channel: Channel) -> dict[str, int]:
        """Return how the adapter of a channel is set: by the field of the channel's name, if it has one."""
        settings: Book | None = getattr(self.spec, channel.name, None)
        return settings.options if settings is not None else {}

    def topic(self, channel: Channel) -> str:
        """Return the Kafka topic of the feed's records of a channel. `spec.kafka.topic` is that of the trades."""
        if not (own := self.spec.kafka.topic):
            return topics.records(channel.name, self.spec.exchange)
        return own if channel is TRADES else f"{own}.{channel.name}"

    def partitions(self, channel: Channel) -> int:
        """Return the number of partitions of the feed's topic of a channel."""
        return self.spec.kafka.partitions or channel.partitions or self.exchange_spec.partitions

    @property
    def shard_count(self) -> int:
        """The number of shards that the feed asks for; of `auto`, with which it begins."""
        shards = self.spec.ingest.shards
        return shards if isinstance(shards, int) else self.autoscale.min

    @property
    def autoscale(self) -> Autoscale:
        """The bounds and the mode of `shards: auto`."""
        return self.spec.ingest.autoscale or Autoscale()

    def shards(self, counts: Counts = ()) -> tuple[int, ...]:
        """Return the shards that run: those that have symbols, or may have some when the exchange's list changes.

        `counts` are the numbers of shards by which symbols are spread now; none: the feed's own.
        """
        counts = counts or (self.shard_count,)
        if self.spec.symbol_selector is not None:
            return tuple(range(max(counts)))
        return tuple(sorted({shard_of(name.raw_symbol, count) for name in self.names for count in counts}))

    def shard(self, index: int, selected: Iterable[SymbolName] = (), counts: Counts = ()) -> tuple[SymbolName, ...]:
        """Return the symbols of shard `index`; `selected` are those that the feed's selector gives now."""
        counts = counts or (self.shard_count,)
        return tuple(name for name in (*self.names, *selected) if is_carried(name.raw_symbol, index, counts))

    def ingest_processes(self, counts: Counts = ()) -> int:
        """Return the number of ingest processes: one for each channel and replica of a shard that runs.

        There are none while the feed is suspended.
        """
        if self.spec.suspend:
            return 0
        return len(self.channels) * self.spec.ingest.redundancy * len(self.shards(counts))


def _symbol_problems(feed: ExchangeFeed) -> Iterator[Problem]:
    first_index: dict[str, int] = {}
    for index, raw_symbol in enumerate(feed.spec.symbols or ()):
        path = f"spec.symbols[{index}]"
        try:
            symbol = feed.exchange_spec.symbol(raw_symbol)
        except UnknownPair as error:
            yield Problem(path, raw_symbol, str(error))
            continue
        if (first := first_index.setdefault(symbol, index)) != index:
            yield Problem(path, raw_symbol, f"each symbol may be listed once; spec.symbols[{first}] is the same")


def _channel_problems(feed: ExchangeFeed) -> Iterator[Problem]:
    names = feed.spec.channels or ()
    for index, name in enumerate(names):
        path = f"spec.channels[{index}]"
        if (first := names.index(name)) != index:
            yield Problem(path, name, f"each channel may be listed once; spec.channels[{first}] is the same")
        elif name not in feed.exchange_spec.channels:
            yield Problem(path, name, feed.exchange_spec.offer)
    depth = feed.spec.book.depth if feed.spec.book else 0
    if depth not in feed.exchange_spec.depths:
        yield Problem("spec.book.depth", depth, feed.exchange_spec.depth_offer)


def _names_of_channels(feed: ExchangeFeed) -> Iterator[str]:
    return (f"{feed.name}-{channel.name}" for channel in feed.channels if channel is not TRADES)


def conflicts(feeds: Iterable[ExchangeFeed]) -> list[Problem]:
    """Return why these feeds cannot run together: a name, a topic or an exchange's symbol belongs to one feed only."""
    problems: list[Problem] = []
    owners: dict[tuple[str, ...], str] = {}
    first_of: dict[str, ExchangeFeed] = {}  # each exchange's first feed
    for feed in feeds:
        other = first_of.setdefault(feed.spec.exchange, feed)
        if other is not feed and (feed.spec.symbol_selector or other.spec.symbol_selector):
            words = (
                f"feed {other.name} has the same exchange, and one with symbolSelector must be the only feed of its own"
            )
            problems.append(Problem(feed.name, feed.spec.exchange, words))
            continue
        # A channel's processes have the names that those of a feed of this name would have.
        claims: list[tuple[str, ...]] = [("name", name) for name in (feed.name, *_names_of_channels(feed))]
        claims += [("topic", feed.topic(channel)) for channel in CHANNELS]  # also of those that it does not record
        claims += [("symbol", feed.spec.exchange, name.symbol) for name in feed.names]
        for claim in claims:
            if claim in owners:
                problems.append(
                    Problem(feed.name, claim[-1], f"this {claim[0]} already belongs to feed {owners[claim]}")
                )
                break
            owners[claim] = feed.name
    return problems
