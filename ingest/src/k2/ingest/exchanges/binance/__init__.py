"""Binance spot."""

from k2.ingest.exchanges.binance.book import BinanceBook
from k2.ingest.exchanges.binance.parse import Binance
from k2.ingest.exchanges.binance.quotes import BinanceQuotes

CHANNELS = {"trades": {"": Binance}, "quotes": {"": BinanceQuotes}, "book": {"": BinanceBook}}
