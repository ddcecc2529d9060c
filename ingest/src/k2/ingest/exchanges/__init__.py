"""One file an exchange: declared data and pure functions."""

from collections.abc import Sequence
from urllib.parse import urldefrag

from k2.ingest.exchanges.base import Exchange
from k2.ingest.exchanges.binance.parse import Binance
from k2.ingest.exchanges.bybit.parse import Bybit
from k2.ingest.exchanges.coinbase.parse import Coinbase
from k2.ingest.exchanges.kraken.parse import Kraken
from k2.ingest.exchanges.kraken.parse_v1 import KrakenV1
from k2.ingest.exchanges.okx.parse import Okx
from k2.schemas.exchanges.spec import Pair

_ADAPTERS: dict[str, type[Exchange]] = {
    "binance": Binance,
    "kraken": Kraken,
    "kraken#v1": KrakenV1,
    "coinbase": Coinbase,
    "bybit": Bybit,
    "okx": Okx,
}


def adapter(exchange: str, pairs: Sequence[Pair], endpoint: str = "") -> Exchange:
    """The adapter of an exchange. An endpoint's fragment chooses an older protocol: `wss://ws.kraken.com#v1`.

    Raises ValueError for a fragment that names none.
    """
    fragment = urldefrag(endpoint).fragment
    name = f"{exchange}#{fragment}" if fragment else exchange
    if name not in _ADAPTERS:
        known = ", ".join(sorted(key for key in _ADAPTERS if key.startswith(f"{exchange}#"))) or "none"
        raise ValueError(f"{exchange} has no protocol {fragment!r}; endpoints may end in: {known}")
    return _ADAPTERS[name](pairs)
