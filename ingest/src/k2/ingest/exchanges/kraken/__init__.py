"""Kraken spot: websocket v2, and v1 for endpoints that end in `#v1`."""

from k2.ingest.exchanges.kraken.book import KrakenBook
from k2.ingest.exchanges.kraken.parse import Kraken
from k2.ingest.exchanges.kraken.parse_v1 import KrakenV1
from k2.ingest.exchanges.kraken.quotes import KrakenQuotes

CHANNELS = {"trades": {"": Kraken, "v1": KrakenV1}, "quotes": {"": KrakenQuotes}, "book": {"": KrakenBook}}
