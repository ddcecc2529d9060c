"""Coinbase Exchange."""

from k2.ingest.exchanges.coinbase.book import CoinbaseBook
from k2.ingest.exchanges.coinbase.parse import Coinbase
from k2.ingest.exchanges.coinbase.quotes import CoinbaseQuotes

CHANNELS = {"trades": {"": Coinbase}, "quotes": {"": CoinbaseQuotes}, "book": {"": CoinbaseBook}}
