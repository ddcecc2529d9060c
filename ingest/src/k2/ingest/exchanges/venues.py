"""One file an exchange: its side of the protocol, as the adapters' counterpart."""

from k2.ingest.exchanges.base_venue import Venue
from k2.ingest.exchanges.binance.venue import BinanceVenue
from k2.ingest.exchanges.bybit.venue import BybitVenue
from k2.ingest.exchanges.coinbase.venue import CoinbaseVenue
from k2.ingest.exchanges.kraken.venue import KrakenVenue
from k2.ingest.exchanges.okx.venue import OkxVenue

VENUES: dict[str, type[Venue]] = {
    "binance": BinanceVenue,
    "kraken": KrakenVenue,
    "coinbase": CoinbaseVenue,
    "bybit": BybitVenue,
    "okx": OkxVenue,
}
