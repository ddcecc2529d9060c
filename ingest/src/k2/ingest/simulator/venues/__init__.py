"""One file an exchange: its side of the protocol, as the adapters' counterpart."""

from k2.ingest.simulator.venues.base import Venue
from k2.ingest.simulator.venues.binance import BinanceVenue
from k2.ingest.simulator.venues.bybit import BybitVenue
from k2.ingest.simulator.venues.coinbase import CoinbaseVenue
from k2.ingest.simulator.venues.kraken import KrakenVenue
from k2.ingest.simulator.venues.okx import OkxVenue

VENUES: dict[str, type[Venue]] = {
    "binance": BinanceVenue,
    "kraken": KrakenVenue,
    "coinbase": CoinbaseVenue,
    "bybit": BybitVenue,
    "okx": OkxVenue,
}
