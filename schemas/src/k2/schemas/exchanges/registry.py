"""The registered exchanges, in the order in which users see them.

The feed model, the CRD's rules, the audit and the simulator derive from this list. The adapter of each is the folder
`k2.ingest.exchanges.<name>`; a new exchange also needs its name in the Avro enum.
"""

from typing import Final

from k2.schemas.exchanges.spec import ExchangeSpec, SequenceScheme

_CONCATENATED: Final = r"[A-Z0-9]{5,20}"
_WITH_SLASH: Final = r"[A-Z0-9]{1,15}/[A-Z0-9]{1,15}"
_WITH_DASH: Final = r"[A-Z0-9]{1,15}-[A-Z0-9]{1,15}"

EXCHANGES: Final[dict[str, ExchangeSpec]] = {
    spec.name: spec
    for spec in (
        ExchangeSpec("binance", _CONCATENATED, "BTCUSDT", "", 40, SequenceScheme.CONSECUTIVE),
        ExchangeSpec(
            "kraken", _WITH_SLASH, "BTC/USD", "/", 20, SequenceScheme.CONSECUTIVE,
            asset_names={"XBT": "BTC", "XDG": "DOGE"},
        ),
        ExchangeSpec("coinbase", _WITH_DASH, "BTC-USD", "-", 20, SequenceScheme.CONSECUTIVE),
        ExchangeSpec("bybit", _CONCATENATED, "BTCUSDT", "", 20, SequenceScheme.NONE),
        ExchangeSpec("okx", _WITH_DASH, "BTC-USDT", "-", 20, SequenceScheme.CONSECUTIVE),
    )
}  # fmt: skip
