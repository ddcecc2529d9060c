"""Bybit spot."""

from k2.ingest.exchanges.bybit.book import BybitBook
from k2.ingest.exchanges.bybit.parse import Bybit
from k2.ingest.exchanges.bybit.quotes import BybitQuotes

CHANNELS = {"trades": {"": Bybit}, "quotes": {"": BybitQuotes}, "book": {"": BybitBook}}
