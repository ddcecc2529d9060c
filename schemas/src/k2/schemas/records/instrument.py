"""Instruments: what an exchange lists. Base, quote, status and steps of a symbol come from here, never from its name.

An exchange's adapter reads the list; `instrument_list` normalises it and rejects, by name, what K2 cannot record.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Any, Final

import msgspec

from k2.schemas.exchanges.spec import ExchangeSpec, Pair, UnknownPair
from k2.schemas.values import PRECISION, SCALE, from_micros, to_micros

SMALLEST_STEP: Final = Decimal(1).scaleb(-SCALE)
AVRO: Final = "instrument_v1"  # the schema file of the topic's records
SPOT: Final = "spot"
_LIMIT: Final = Decimal(10) ** (PRECISION - SCALE)
_MAX_STEP_TEXT: Final = 60


class InstrumentStatus(StrEnum):
    """Whether an instrument trades."""

    ANNOUNCED = "announced"  # listed, trading begins later
    TRADING = "trading"
    HALTED = "halted"
    DELISTED = "delisted"
    UNKNOWN = "unknown"  # a status that K2 does not know


class Listed(msgspec.Struct, frozen=True):
    """One entry of an exchange's list, with the exchange's names. `definition` is its JSON text, as received."""

    raw_symbol: str
    base: str
    quote: str
    status: InstrumentStatus
    tick_size: str
    lot_size: str
    definition: str
    min_notional: str = ""
    listed_at: int | None = None  # UTC microseconds


class Rejected(msgspec.Struct, frozen=True):
    """An entry that K2 does not record, and why."""

    raw_symbol: str
    reason: str


class Instrument(msgspec.Struct, frozen=True):
    """One instrument. Steps are exact; None where the exchange states none. `listed_at` is in UTC microseconds.

    `listing` is the number of the listing to which the ids of its trades belong, from 1.
    """

    raw_symbol: str
    symbol: str
    exchange: str
    base_asset: str
    quote_currency: str
    status: InstrumentStatus
    tick_size: Decimal | None
    lot_size: Decimal | None
    min_notional: Decimal | None
    listed_at: int | None
    definition: str
    listing: int = 1

    @property
    def pair(self) -> Pair:
        """The instrument as a pair of assets."""
        return Pair(self.raw_symbol, self.symbol, self.base_asset, self.quote_currency)


class InstrumentVersion(msgspec.Struct, frozen=True):
    """An instrument as listed from `valid_from` on, in UTC microseconds: a record of the topic."""

    instrument: Instrument
    valid_from: int

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of the Avro record."""
        values = msgspec.structs.asdict(self.instrument)
        listed_at = self.instrument.listed_at
        return values | {
            "kind": SPOT,
            "status": self.instrument.status.value,
            "listed_at": None if listed_at is None else from_micros(listed_at),
            "valid_from": from_micros(self.valid_from),
        }

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "InstrumentVersion":
        """Return the version of a decoded Avro record. A status of a later version of K2 is unknown."""
        values = {name: fields[name] for name in Instrument.__struct_fields__}
        status, listed_at = fields["status"], fields["listed_at"]
        values["status"] = InstrumentStatus(status if status in set(InstrumentStatus) else InstrumentStatus.UNKNOWN)
        values["listed_at"] = None if listed_at is None else to_micros(listed_at)
        for name in ("tick_size", "lot_size", "min_notional"):
            values[name] = None if values[name] is None else values[name].normalize()
        return cls(Instrument(**values), to_micros(fields["valid_from"]))


class InstrumentList(msgspec.Struct, frozen=True):
    """An exchange's list at one moment, by raw symbol: the instruments, and why others are rejected."""

    instruments: Mapping[str, Instrument] = {}
    rejected: Mapping[str, str] = {}


def instrument_list(spec: ExchangeSpec, entries: Iterable[Listed | Rejected]) -> InstrumentList:
    """Normalise an exchange's entries.

    Rejected by name: entries that the exchange's spelling does not explain, that trade in finer steps than trades can
    hold, and all of those whose normalised symbols coincide.
    """
    instruments: dict[str, Instrument] = {}
    rejected: dict[str, str] = {}
    by_symbol: dict[str, list[str]] = {}
    for entry in entries:
        if isinstance(entry, Rejected):
            rejected[entry.raw_symbol] = entry.reason
            continue
        try:
            instrument = _normalised(spec, entry)
        except ValueError as error:
            rejected[entry.raw_symbol] = str(error)
            continue
        instruments[instrument.raw_symbol] = instrument
        by_symbol.setdefault(instrument.symbol, []).append(instrument.raw_symbol)
    for symbol, names in by_symbol.items():
        for name in names if len(set(names)) > 1 else ():
            others = ", ".join(other for other in names if other != name)
            rejected[name] = f"its normalised symbol {symbol} is also that of {others}"
            instruments.pop(name, None)
    return InstrumentList(instruments, rejected)


def _normalised(spec: ExchangeSpec, entry: Listed) -> Instrument:
    """Return the instrument of an entry. Raises ValueError with the reason for which it is rejected."""
    base, quote = spec.asset(entry.base), spec.asset(entry.quote)
    if not base or not quote:
        raise ValueError("the exchange's list names no base or no quote asset")
    raw_symbol = spec.canonical(entry.raw_symbol)
    try:
        symbol = spec.symbol(raw_symbol)
    except UnknownPair:
        raise ValueError("its name has other characters than letters and digits, or too many of them") from None
    if symbol != base + quote:
        raise ValueError(f"its name does not consist of its assets, {base} and {quote}")
    return Instrument(
        raw_symbol,
        symbol,
        spec.label,
        base,
        quote,
        entry.status,
        _step("tick size", entry.tick_size),
        _step("lot size", entry.lot_size),
        _step("minimum notional", entry.min_notional),
        entry.listed_at,
        entry.definition,
    )


def _step(name: str, text: str) -> Decimal | None:
    step = _amount(name, text)
    if step is not None and step % SMALLEST_STEP:
        raise ValueError(f"its {name} {step:f} is finer than 10^-{SCALE}, the finest step that a trade can hold")
    return step


def _amount(name: str, text: str) -> Decimal | None:
    """Parse an amount; None if the exchange states none, as it also does by 0."""
    if not text:
        return None
    try:
        amount = Decimal(text[:_MAX_STEP_TEXT])
    except InvalidOperation:
        raise ValueError(f"its {name} {text[:_MAX_STEP_TEXT]!r} is not a number") from None
    if not amount.is_finite() or not 0 <= amount < _LIMIT:
        raise ValueError(f"its {name} {text[:_MAX_STEP_TEXT]!r} is not a positive number below 10^{PRECISION - SCALE}")
    return amount.normalize() if amount else None
