"""ExchangeFeeds that the API server takes or refuses, each with a part of the sentence it refuses with.

The sentence is the one for an object that is created or replaced. Server-side apply tells a wrong type, an unknown
field and a symbol twice in words of its own, before the schema is asked.
"""

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

_DURATION = "write a whole number and ms, s, m, h or d, such as 10s"
_QUANTITY = "must be a quantity such as 500m, 2 or 2Gi"
_WEBSOCKET = "must be a URL that begins with ws:// or wss:// and contains no user name, password or query"
_HTTP = "must be a URL that begins with http:// or https:// and contains no user name, password, query or fragment"
_NAME = "metadata.name must be lower-case letters, digits and '-'"
_TEN = "retention must be at least 10 times the trigger; lengthen retention or shorten trigger"
_EITHER = "write either symbols or symbolSelector"
_TWICE = "XBT is BTC and XDG is DOGE; remove one of the two names from spec.symbols"


@dataclass(frozen=True)
class Case:
    """One object. `refused`: None where it is accepted. `by_model`: whether the model says the same."""

    name: str
    object: dict[str, Any]
    refused: str | None = None
    by_model: bool = True


@dataclass(frozen=True)
class Update:
    """One object in place of another."""

    name: str
    before: dict[str, Any]
    after: dict[str, Any]
    refused: str | None = None


def feed(name: str = "one", **spec: Any) -> dict[str, Any]:
    """A valid feed with parts of its spec replaced; None leaves a part out."""
    whole = {"exchange": "binance", "symbols": ["BTCUSDT"]} | spec
    return {
        "apiVersion": "k2.marketdata.io/v1alpha1",
        "kind": "ExchangeFeed",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {part: deepcopy(value) for part, value in whole.items() if value is not None},
    }


def _named() -> list[Case]:
    good = ["a", "0", "a" * 40, "binance-spot-2"]
    bad = {"a.b": _NAME}
    return [
        *(Case(f"name {name}", feed(name)) for name in good),
        *(Case(f"name {name}", feed(name), why) for name, why in bad.items()),
        Case("name of 64", feed("a" * 64), "metadata.name must have at most 40 characters"),
        Case("name of 41", feed("a" * 41), "metadata.name must have at most 40 characters"),
    ]


def _symbols() -> list[Case]:
    def bad(name: str, why: str, exchange: str, *symbols: str, by_model: bool = True) -> Case:
        return Case(f"symbols {name}", feed(exchange=exchange, symbols=list(symbols)), why, by_model)

    good = {
        "binance": ["BTCUSDT", "1000SATSUSDT", "BTCFDUSD", "USDCUSDT", "SBNB", "币安人生USDT"],
        "kraken": ["BTC/USD", "XBT/EUR", "XDG/XBT", "ETH/BTC", "AAPLx/USD"],
        "coinbase": ["BTC-USD", "00-USD"],
        "bybit": ["BTCUSDT", "ETHBTC"],
        "okx": ["BTC-USDT", "ETH-BTC"],
    }
    return [
        *(Case(f"symbols of {name}", feed(exchange=name, symbols=symbols)) for name, symbols in good.items()),
        Case("symbols, a thousand", feed(symbols=[f"A{number:05}USDT" for number in range(1000)])),
        Case(
            "symbols of kraken, a thousand",
            feed(exchange="kraken", symbols=["XBT/USD", *(f"A{number:014}/USD" for number in range(999))]),
        ),
        bad("of kraken at binance", "binance spells symbols like BTCUSDT", "binance", "BTC/USD"),
        bad("in lower case", "correct btcusdt", "binance", "ETHUSDT", "btcusdt"),
        bad("with a newline", "binance spells symbols like BTCUSDT", "binance", "BTCUSDT\n"),
        bad("empty", "binance spells symbols like BTCUSDT", "binance", ""),
        bad("with a command", "correct a;b", "binance", "a;b"),
        bad("with a lookup", "correct ${jndi}", "kraken", "${jndi}"),
        bad("with a NUL", "binance spells symbols like BTCUSDT", "binance", "BTC\x00USDT"),
        bad("with a zero-width space", "binance spells symbols like BTCUSDT", "binance", "BTCUSDT\u200b"),
        bad("of a path", "kraken spells symbols like BTC/USD", "kraken", "../.."),
        bad("of binance at kraken", "correct BTCUSD", "kraken", "BTCUSD"),
        bad("with two separators", "okx spells symbols like BTC-USDT", "okx", "BTC-USD-SWAP"),
        bad("of kraken at coinbase", "coinbase spells symbols like BTC-USD", "coinbase", "BTC/USD"),
        bad("of okx at bybit", "bybit spells symbols like BTCUSDT", "bybit", "BTC-USDT"),
        bad("too long", "may not be more than 31 bytes", "binance", "A" * 32),
        bad("twice", 'Duplicate value: "BTCUSDT"', "binance", "BTCUSDT", "ETHUSDT", "BTCUSDT"),
        bad("by two names", _TWICE, "kraken", "BTC/USD", "XBT/USD"),
        bad("by two names of a quote", _TWICE, "kraken", "ETH/XBT", "ETH/BTC"),
        bad("by two names of both", _TWICE, "kraken", "XDG/XBT", "DOGE/BTC"),
        bad("by two names, crosswise", _TWICE, "kraken", "XDG/BTC", "DOGE/XBT"),
        Case("symbols, none", feed(symbols=[]), "should have at least 1 items"),
        Case("symbols, left out", feed(symbols=None), _EITHER),
        *_selectors(),
        Case("symbols, ten thousand", feed(symbols=[f"A{number:05}USDT" for number in range(10000)]), "1000 items"),
        Case("symbols, too many", feed(symbols=[f"A{number:05}USDT" for number in range(1001)]), "1000 items"),
    ]


def _selectors() -> list[Case]:
    def selecting(name: str, why: str | None, spec: dict[str, Any], **selector: Any) -> Case:
        return Case(f"selector {name}", feed(**{"symbols": None, "symbolSelector": selector} | spec), why)

    return [
        selecting("of a quote", None, {}, quotes=["USDT"]),
        selecting("with everything", None, {}, quotes=["USDT", "USDC"], exclude=["BTCUSDT"], maxSymbols=1000),
        selecting("beside symbols", _EITHER, {"symbols": ["BTCUSDT"]}, quotes=["USDT"]),
        selecting("without quotes", "quotes", {}, maxSymbols=10),
        selecting("of no quote", "should have at least 1 items", {}, quotes=[]),
        selecting("of too many symbols", "less than or equal to 1000", {}, quotes=["USDT"], maxSymbols=1001),
        selecting("with its data", "set deletionPolicy to Retain", {"deletionPolicy": "Delete"}, quotes=["USDT"]),
    ]


def _channels() -> list[Case]:
    return [
        Case("channels", feed(channels=["quotes", "trades"])),
        Case("channels, quotes alone", feed(channels=["quotes"])),
        Case("channels, order books", feed(channels=["trades", "quotes", "book"])),
        Case("channels, none", feed(channels=[]), "should have at least 1 items"),
        Case("channels twice", feed(channels=["trades", "trades"]), 'Duplicate value: "trades"'),
        Case("depth of books", feed(channels=["book"], book={"depth": 500, "snapshotInterval": "1m"})),
        Case("books as they come", feed(book={"depth": 0, "snapshotInterval": "auto"})),
        Case("depth not offered", feed(book={"depth": 200}), "binance offers books of 100, 500, 1000 or 5000 levels"),
        Case(
            "depth of whole books",
            feed(exchange="coinbase", symbols=["BTC-USD"], book={"depth": 50}),
            "coinbase offers whole books only",
        ),
        Case("depth of the only kind", feed(exchange="okx", symbols=["BTC-USDT"], book={"depth": 400})),
        Case("depth below 0", feed(book={"depth": -1}), "greater than or equal to 0"),
        Case("snapshots too often", feed(book={"snapshotInterval": "999ms"}), "must be auto, or between 1s and 1h"),
        Case("snapshots too seldom", feed(book={"snapshotInterval": "61m"}), "must be auto, or between 1s and 1h"),
        Case("snapshots never", feed(book={"snapshotInterval": "never"}), "must be auto, or between 1s and 1h"),
        Case("channels of another name", feed(channels=["candles"]), 'Unsupported value: "candles"'),
    ]


def _durations() -> list[Case]:
    """Each kind of duration, within, at and beyond its bounds."""
    places = {
        "trigger": ("100ms", "1h", lambda value: {"layers": {"gold": {"trigger": value}}}),
        "retention": ("1m", "3650d", lambda value: {"kafka": {"retention": value}}),
        "maxAge": ("1m", "3650d", lambda value: {"ingest": {"backfill": {"maxAge": value}}}),
    }
    good = {
        "trigger": ["100ms", "999ms", "1s", "60m", "3600s", "3600000ms", "1h"],
        "retention": ["60s", "1m", "7d", "168h", "87600h", "3650d", "60000ms"],
        "maxAge": ["1m", "3650d"],
    }
    out = {
        "trigger": ["99ms", "2h", "61m", "3601s", "1d", "999999999d"],
        "retention": ["59s", "59999ms", "3651d", "87601h", "999999999d"],
        "maxAge": ["59s", "3651d"],
    }
    malformed = ["", "0s", "-1s", "1", "1.5s", "1w", "1 s", "s", "1s\n", "01s", "1S", "ten", "1h30m", "1000000000s"]
    cases = []
    for place, (low, high, spec) in places.items():
        cases += [Case(f"{place} {value}", feed(**spec(value))) for value in good[place]]
        why = f"must be between {low} and {high}; {_DURATION}"
        cases += [Case(f"{place} {value}", feed(**spec(value)), why) for value in out[place]]
        cases += [Case(f"{place} {value!r}", feed(**spec(value)), _DURATION) for value in malformed]
        cases.append(Case(f"{place} too long", feed(**spec("1" * 12)), "may not be more than 11 bytes"))
    return cases


def _retention() -> list[Case]:
    def layer(name: str, trigger: str, retention: str) -> dict[str, Any]:
        return feed(layers={name: {"trigger": trigger, "retention": retention}})

    return [
        Case("bronze kept ten triggers", layer("bronze", "1h", "10h")),
        Case("silver kept ten triggers, in other units", layer("silver", "60000ms", "10m")),
        Case("bronze kept nine triggers", layer("bronze", "1h", "9h"), _TEN),
        Case("silver kept just too short", layer("silver", "6001ms", "1m"), _TEN),
        Case("silver's trigger alone", feed(layers={"silver": {"trigger": "1h"}})),
        Case("bronze's retention alone", feed(layers={"bronze": {"retention": "1m"}}), _TEN),
        Case(
            "gold keeps for ever",
            feed(layers={"gold": {"retention": "7d"}}),
            'unknown field "spec.layers.gold.retention"',
        ),
    ]


def _quantities() -> list[Case]:
    def amount(value: str) -> dict[str, Any]:
        return feed(layers={"bronze": {"resources": {"limits": {"memory": value}, "requests": {"cpu": value}}}})

    good = ["1", "0", "500m", "0.5", "2Gi", "128Mi", "1" * 12]
    bad = ["", "-1", "1Tib", "one", "1e3", "1 Gi", "Gi", "1Gi\n", ".5", "1" * 13]
    return [
        *(Case(f"quantity {value!r}", amount(value)) for value in good),
        *(Case(f"quantity {value!r}", amount(value), _QUANTITY) for value in bad),
    ]


def _urls() -> list[Case]:
    def websocket(value: str) -> dict[str, Any]:
        return feed(ingest={"endpoints": ["wss://first.example", value]})

    def rest(value: str) -> dict[str, Any]:
        return feed(ingest={"restEndpoint": value})

    rests = ["", "http://127.0.0.1:1", "https://api.example/v3", "https://h/", "https://h/a@b;c=d"]
    sockets = [
        "ws://h",
        "wss://stream.example:9443",
        "wss://h:65535/a/b#v1",
        "wss://h#v2",
        "ws://[::1]:80/",
        "wss://h/@x",
    ]
    hosts = ["", "h", "//h", "wss://", "ftp://h", "wss://bob:secret@h", "wss://bob@h", "wss://h:0", "wss://h:65536"]
    return [
        *(Case(f"endpoint {value}", websocket(value)) for value in sockets),
        *(Case(f"rest {value!r}", rest(value)) for value in rests),
        *(Case(f"endpoint {value!r}", websocket(value), _WEBSOCKET) for value in [*hosts, "https://h", "wss://[::1"]),
        *(
            Case(f"endpoint {value!r}", websocket(value), _WEBSOCKET)
            for value in ["wss://h?a=b", "wss://h/?", "wss://h?"]
        ),
        *(
            Case(f"endpoint {value!r}", websocket(value), _WEBSOCKET)
            for value in ["wss://h#", "wss://h#V1", "wss://h/a#b/c"]
        ),
        *(
            Case(f"rest {value!r}", rest(value), _HTTP)
            for value in ["http://h?x=1", "http://h#f", "http://h/a#", "http://h/?"]
        ),
        *(Case(f"rest {value!r}", rest(value), _HTTP) for value in ["h", "http://", "wss://h", "http://bob:x@h"]),
        Case("endpoint with a space", websocket("wss://h/a b"), _WEBSOCKET),
        Case("endpoint with a newline", websocket("wss://h/a\n"), _WEBSOCKET),
        Case("endpoints, too many", feed(ingest={"endpoints": ["wss://h"] * 9}), "must have at most 8 items"),
        Case("endpoint too long", websocket("wss://" + "h" * 2043), "may not be more than 2048 bytes", by_model=False),
    ]


def _others() -> list[Case]:
    def refused(name: str, why: str, **spec: Any) -> Case:
        return Case(name, feed(**spec), why)

    return [
        Case("the smallest", feed()),
        Case("all defaults asked for", feed(ingest={}, kafka={}, layers={"bronze": {}, "silver": {}, "gold": {}})),
        Case(
            "scheduling",
            feed(
                placement={
                    "nodeSelector": {"disk": "ssd"},
                    "tolerations": [{"key": "k2", "operator": "Exists", "tolerationSeconds": 9}],
                    "affinity": {"nodeAffinity": {"x": [{"y": 1}]}},
                    "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone"}],
                    "priorityClassName": "high",
                }
            ),
        ),
        Case("topic", feed(kafka={"topic": "My.topic_1-x"})),
        Case("one Spark application", feed(layers={"topology": "Combined", "gold": {"executors": 0}})),
        refused(
            "exchange ftx",
            'Unsupported value: "ftx": supported values: "binance", "kraken"',
            exchange="ftx",
            symbols=["BTCUSDT"],
        ),
        refused("exchange left out", "spec.exchange: Required value", exchange=None),
        refused("topology", 'Unsupported value: "One"', layers={"topology": "One"}),
        refused("deletionPolicy", 'Unsupported value: "Drop"', deletionPolicy="Drop"),
        refused("a misspelt field", 'unknown field "spec.symbls"', symbls=[]),
        refused("a misspelt inner field", 'unknown field "spec.ingest.shard"', ingest={"shard": 2}),
        refused(
            "a topic with a space",
            "must consist of at most 200 letters, digits, '.', '_' and '-'",
            kafka={"topic": "a b"},
        ),
        refused("a topic of 201", "may not be more than 200 bytes", kafka={"topic": "a" * 201}),
        refused("a topic of dots", "not a valid Kafka topic name", kafka={"topic": ".."}),
        refused("a topic of Kafka's own", "are reserved; choose another", kafka={"topic": "__offsets"}),
        refused("a topic of gaps", "are reserved", kafka={"topic": "market.crypto.gaps.binance"}),
        Case("shards by load", feed(ingest={"shards": "auto", "autoscale": {"mode": "recommend", "min": 2, "max": 4}})),
        Case("shards by load, within the default bounds", feed(ingest={"shards": "auto", "autoscale": {"max": 1}})),
        refused("shards in words", "must be auto or a whole number from 1 to 64", ingest={"shards": "2"}),
        refused("shards of a kind", "must be auto or a whole number from 1 to 64", ingest={"shards": "automatic"}),
        refused("most below least", "autoscale.min must be at most autoscale.max", ingest={"autoscale": {"min": 9}}),
        refused("another mode", 'Unsupported value: "dry"', ingest={"autoscale": {"mode": "dry"}}),
        refused("suspend as a number", 'must be of type boolean: "integer"', suspend=1),
        refused("no shards", "greater than or equal to 1", ingest={"shards": 0}),
        refused("65 shards", "less than or equal to 64", ingest={"shards": 65}),
        refused("redundancy 3", "less than or equal to 2", ingest={"redundancy": 3}),
        refused("partitions -1", "greater than or equal to 0", kafka={"partitions": -1}),
        refused("partitions 1001", "less than or equal to 1000", kafka={"partitions": 1001}),
        refused("executors 33", "less than or equal to 32", layers={"silver": {"executors": 33}}),
        refused("suspend in words", 'must be of type boolean: "string"', suspend="maybe"),
        refused("ingest as a list", 'must be of type object: "array"', ingest=[]),
    ]


CASES = [*_named(), *_symbols(), *_channels(), *_durations(), *_retention(), *_quantities(), *_urls(), *_others()]


def _quotes(**kafka: int) -> dict[str, Any]:
    return feed(channels=["trades", "quotes"], kafka=kafka)


_IMMUTABLE = "exchange is immutable; create another ExchangeFeed"
_PARTITIONS = "kafka.partitions never falls, because Kafka cannot remove partitions"
UPDATES = [
    Update("nothing", feed(), feed()),
    Update("symbols", feed(), feed(symbols=["ETHUSDT"])),
    Update("suspend", feed(), feed(suspend=True)),
    Update("exchange", feed(), feed(exchange="bybit"), _IMMUTABLE),
    Update("a topic", feed(), feed(kafka={"topic": "other"}), "the topic is immutable"),
    Update("fewer partitions", feed(kafka={"partitions": 50}), feed(kafka={"partitions": 49}), _PARTITIONS),
    Update("fewer partitions than by default", feed(), feed(kafka={"partitions": 39}), _PARTITIONS),
    Update("the default of fewer partitions", feed(kafka={"partitions": 50}), feed(), _PARTITIONS),
    Update("more partitions than by default", feed(), feed(kafka={"partitions": 41})),
    Update("the default number of partitions", feed(), feed(kafka={"partitions": 40})),
    Update("fewer partitions of quotes", _quotes(partitions=30), _quotes(), _PARTITIONS),
    Update("the default number of partitions of quotes", _quotes(), _quotes(partitions=40)),
    Update("more channels", feed(), feed(channels=["trades", "quotes"])),
    Update("a worse trigger", feed(), feed(layers={"gold": {"trigger": "1ms"}}), _DURATION),
]
