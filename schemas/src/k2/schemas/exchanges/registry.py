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
            book_depths=(100, 500, 1_000, 5_000), books_share_ids=True, quotes_number_books=True,
        ),
        ExchangeSpec(
            "kraken", "BTC/USD", "/", 20, SequenceScheme.CONSECUTIVE,
            asset_names={"XBT": "BTC", "XDG": "DOGE"}, mixed_case=True,
            channels=_ALL, book_depths=(10, 25, 100, 500, 1_000),
        ),
        ExchangeSpec("coinbase", "BTC-USD", "-", 20, SequenceScheme.CONSECUTIVE, channels=_ALL),
        ExchangeSpec("bybit", "BTCUSDT", "", 20, SequenceScheme.NONE, channels=_ALL, book_depths=(50, 200, 1_000)),
        ExchangeSpec(
            "okx", "BTC-USDT", "-", 20, SequenceScheme.CONSECUTIVE, channels=_ALL,
            book_depths=(400,), books_share_ids=True,
        ),
    )
}  # fmt: skip
