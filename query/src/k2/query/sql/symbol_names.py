"""Symbols as people write them: BTCUSDT, btc-usdt, BTC/USDT, and XBT/USD where an exchange writes so for BTC/USD.

A name is read without the catalog: separators and case do not matter, and an exchange's own names of assets stand for
the common ones. Only where nothing is stored under it, what is stored and listed decides what the error names.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from k2.common.validation_errors import format_value
from k2.query.errors import BadQuery
from k2.query.sql.cage.diagnosis.positions import nearest
from k2.schemas.channels import DEFAULT_CHANNELS
from k2.schemas.exchanges.registry import EXCHANGES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from k2.schemas.channels import Channel
    from k2.schemas.exchanges.spec import ExchangeSpec

_SEPARATORS: Final = re.compile(r"[/\-_:.\s]+")
_WRITTEN: Final = re.compile(r"[^\W_]+(\s*[/\-_:.\s]\s*[^\W_]+){0,2}")  # not a path: separators stand between names
_LONGEST: Final = 40
_SHOWN: Final = 20  # symbols that a message lists


def normalize(text: str, exchange: str | None) -> str:
    """Return K2's symbol for what a user wrote. Raises `BadQuery`.

    Args:
        text: In the spelling of K2, of any exchange, or of people; in any case.
        exchange: The label of the exchange that is asked, whose own names of assets count too.

    """
    assets = [part for part in _SEPARATORS.split(text.strip().upper()) if part]
    symbol = "".join(assets)
    if not _WRITTEN.fullmatch(text.strip()) or not symbol.isalnum() or len(symbol) > _LONGEST:
        raise BadQuery(f"{format_value(text)} is not a symbol; write its two assets, such as BTCUSDT or BTC/USDT")
    spec = EXCHANGES[exchange.lower()] if exchange else None
    if spec is None or not spec.asset_names:
        return symbol
    if len(assets) > 1:
        return "".join(spec.asset(asset) for asset in assets)
    return _with_common_names(symbol, spec)


def _with_common_names(symbol: str, spec: ExchangeSpec) -> str:
    """Replace an exchange's own name of an asset where the symbol begins or ends with it: XBTUSD, ETHXBT."""
    for own, common in spec.asset_names.items():
        if symbol.startswith(own) and symbol != own:
            symbol = common + symbol.removeprefix(own)
        elif symbol.endswith(own) and symbol != own:
            symbol = symbol.removesuffix(own) + common
    return symbol


def never_stored(
    symbol: str, stored: Sequence[Mapping[str, str]], listed: Iterable[Mapping[str, str]], channel: Channel, noun: str
) -> BadQuery | None:
    """Return the error for a symbol without any record of a channel; None if it has some.

    Args:
        symbol: In K2's spelling.
        stored: What is stored: `symbol` and `base_asset` of each.
        listed: What exchanges list: `exchange` and `symbol` of each.
        channel: The channel.
        noun: One record of it.

    """
    names = sorted({row["symbol"] for row in stored})
    if not names or symbol in names:
        return None
    nothing = f"no {noun} of {format_value(symbol)} is stored"
    feed = "" if channel in DEFAULT_CHANNELS else f" with the channel {channel.name}"
    if choices := sorted({row["symbol"] for row in stored if row["base_asset"] == symbol}):
        return BadQuery(f"{format_value(symbol)} is an asset and not a symbol; choose {_enumerate(choices)}")
    if exchanges := sorted({row["exchange"] for row in listed if row["symbol"] == symbol}):
        return BadQuery(f"{nothing}, though {' and '.join(exchanges)} lists it; add it to a feed{feed}")
    aliases = {normalize(symbol, name) for name in EXCHANGES} - {symbol}
    meant = next((name for name in sorted(aliases) if name in names), None) or nearest(symbol, names)
    return BadQuery(f"{nothing}; {f'did you mean {meant}?' if meant else f'available symbols: {_enumerate(names)}'}")


def _enumerate(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
