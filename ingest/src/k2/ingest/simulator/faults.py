"""Faults of the simulated exchange, written `KIND[=ARGUMENT[,TARGET]][@TIME]`, such as `drop=20@10s`. Pure.

The argument is a count, a time, an offset (a time that may be negative) or a symbol. The target narrows a fault.
"""

import re
from dataclasses import dataclass
from typing import Final

from k2.schemas.values import seconds

# kind: (unit of the argument, default, effect)
KINDS: Final = {
    "drop": ("count", "20", "trades happen, but the next ones are not sent"),
    "repeat": ("count", "50", "the newest trades are sent once more"),
    "malformed": ("count", "1", "frames that no parser can trust"),
    "oversized": ("count", "1", "a frame of more than 1 MiB"),
    "conflict": ("count", "1", "a trade id is sent again with another price"),
    "unknown": ("count", "1", "a message of a kind that is not documented"),
    "bad-item": ("count", "3", "in the next frames, one trade has an impossible side"),
    "extra": ("time", "40s", "messages and REST rows have fields and columns that are not documented"),
    "phantom": ("count", "3", "the next ids of a symbol are never issued"),
    "ratelimit": ("count", "3", "the next REST requests are refused because of the rate, as the exchange does"),
    "unavailable": ("count", "3", "the next REST requests are answered with 503"),
    "passing": (
        "count",
        "5",
        "the next REST requests are answered with the exchange's own passing errors, one after another",
    ),
    "status": ("count", "451", "the next REST request is answered with this HTTP status"),
    "html": ("count", "3", "the next REST requests are answered with an HTML page and status 200"),
    "cut-body": ("count", "3", "the bodies of the next REST answers end in the middle"),
    "ban": ("time", "10s", "REST requests are answered as to a banned address"),
    "weight": ("count", "3000", "other clients of the address use this much REST weight"),
    "lag": ("time", "5s", "from now on, REST shows trades this much later"),
    "empty": ("count", "2", "the next REST pages are empty"),
    "omit": ("count", "2", "the next REST pages lack some of their rows"),
    "disorder": ("count", "2", "the rows of the next REST pages are out of order"),
    "other-symbol": ("count", "2", "the next REST pages have the rows of another symbol"),
    "refuse": ("count", "2", "the next connections are refused"),
    "close": ("count", "1", "every connection is cut without a close frame (1006)"),
    "close-code": ("count", "1012", "every connection is closed with this code"),
    "shutdown": ("time", "5s", "a restart is announced as the exchange does, and connections end this much later"),
    "maintenance": ("time", "20s", "connections are ended and refused, without an announcement, and REST fails"),
    "reset": ("count", "1", "trade ids begin at 1 again, as with a new listing"),
    "silent": ("time", "40s", "nothing at all is sent, but connections stay open"),
    "quiet": ("time", "40s", "no trades are sent, but heartbeats and pings are"),
    "cut": ("time", "30s", "connections older than this are closed, as some exchanges do after 24 h"),
    "late": ("time", "2h", "a trade whose time lies this far back"),
    "wrong-pong": ("time", "40s", "pings are answered with a wrong pong, or not at all"),
    "busy": ("count", "2", "the next subscription requests are refused because of a rate, in the exchange's words"),
    "unanswered": ("count", "2", "the next subscription requests are not answered, and nothing is done"),
    "undone": ("count", "2", "the next subscription requests are acknowledged, but nothing is done"),
    "late-answer": ("time", "3s", "from now on, answers to requests come this late"),
    "mute": ("time", "40s", "one symbol is not sent, while the others flow"),
    "stuck": ("symbol", "", "one symbol is not sent on the open connections until it is subscribed again"),
    "frozen": ("symbol", "", "one symbol is not sent on the open connections, whatever is subscribed"),
    "limit": ("count", "2,arguments", "a limit of the exchange, named after the comma, becomes this"),
    "list": ("symbol", "", "a symbol is listed, or listed again, and begins to trade"),
    "halt": ("symbol", "", "a symbol stops trading, and the instrument list says so"),
    "delist": (
        "symbol",
        "",
        "a symbol is delisted: it stops trading, and subscriptions to it are refused as the exchange does",
    ),
    "book-drop": ("count", "5", "order books change, but the next messages of it are not sent"),
    "book-repeat": ("count", "5", "the next messages of order books are sent twice"),
    "book-swap": ("count", "2", "the next messages of order books are sent after those that follow them"),
    "book-cut": ("count", "2", "the next messages of order books end in the middle"),
    "book-checksum": (
        "count",
        "1",
        "the next messages of order books have a wrong checksum, where the exchange sends one",
    ),
    "book-jump": ("count", "1000", "the numbers of order books jump by so many, of which no message is sent"),
    "book-reset": (
        "symbol",
        "",
        "the numbers of an order book begin again as on the exchange; without numbers, its state is sent again",
    ),
    "book-cross": ("count", "1", "the next messages of order books have a bid above the asks"),
    "clock": ("offset", "5s", "the exchange's clock is ahead by this; behind, if negative"),
}

LIMITS: Final = ("messages", "arguments", "bytes", "symbols", "characters", "connects", "weight")
_COUNT: Final = re.compile(r"[1-9][0-9]{0,8}")
_LONGEST_TARGET: Final = 60


class UnknownFault(ValueError):
    """A fault of an unknown kind, or not written `KIND[=ARGUMENT[,TARGET]][@TIME]`."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: `amount` is a count or seconds; `at` is seconds after the exchange opened; `target` may be empty."""

    kind: str
    amount: float
    at: float = 0.0
    target: str = ""


def parse(text: str) -> Fault:
    """Parse a fault. Raises `UnknownFault`."""
    head, _, at = text.partition("@")
    kind, _, argument = head.partition("=")
    if kind not in KINDS:
        raise UnknownFault(f"{kind!r} is no fault; known are {', '.join(KINDS)}")
    unit, default, _ = KINDS[kind]
    first, _, target = (argument or default).partition(",")
    if unit == "symbol":
        first, target = "1", argument
    try:
        if kind == "limit" and target not in LIMITS:
            raise ValueError(f"{target[:40]!r} is no limit; known are {', '.join(LIMITS)}")  # noqa: TRY301
        if len(target) > _LONGEST_TARGET or not target.isprintable():
            raise ValueError(f"{target[:40]!r} is longer than {_LONGEST_TARGET} characters, or not printable")  # noqa: TRY301
        return Fault(
            kind, _amount(unit, first or default.partition(",")[0]), seconds(at) if at and at != "0s" else 0.0, target
        )
    except ValueError as error:
        raise UnknownFault(f"{text!r}: write {kind}={default or 'SYMBOL'}@10s; {error}") from None


def _amount(unit: str, text: str) -> float:
    if unit in {"count", "symbol"}:
        return _count(text)
    if unit == "offset":
        return -seconds(text[1:]) if text.startswith("-") else seconds(text)
    return seconds(text)


def _count(text: str) -> float:
    if not _COUNT.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is not a count; write 1 or more")
    return float(text)
