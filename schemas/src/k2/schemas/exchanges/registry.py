"""The registered exchanges, in the order in which users see them.

The feed model, the CRD's rules, the audit and the simulator derive from this list. The adapter of each is the folder
`k2.ingest.exchanges.<name>`; a new exchange also needs its name in the Avro enum.
"""

from typing import Final

from k2.schemas.exchanges.spec import ExchangeSpec, SequenceScheme

_ALL: Final = ("trades", "quotes", "book")

EXCHANGES: Final[dict[str, ExchangeSpec]] = {
    spec.name: spec
    for spec in (
        ExchangeSpec(
            "binance", "BTCUSDT", "", 40, SequenceScheme.CONSECUTIVE, channels=_ALL,
            quotes_number_books=True,
        ),
        ExchangeSpec(
            "kraken", "BTC/USD", "/", 20, SequenceScheme.CONSECUTIVE,
            asset_names={"XBT": "BTC", "XDG": "DOGE"}, mixed_case=True,
            channels=_ALL,
        ),
        ExchangeSpec("coinbase", "BTC-USD", "-", 20, SequenceScheme.CONSECUTIVE, channels=_ALL),
        ExchangeSpec("bybit", "BTCUSDT", "", 20, SequenceScheme.NONE, channels=_ALL),
        ExchangeSpec("okx", "BTC-USDT", "-", 20, SequenceScheme.CONSECUTIVE, channels=_ALL),
    )
}  # fmt: skip
