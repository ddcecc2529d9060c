"""OKX spot."""

from k2.ingest.exchanges.okx.book import OkxBook
from k2.ingest.exchanges.okx.parse import Okx
from k2.ingest.exchanges.okx.quotes import OkxQuotes

CHANNELS = {"trades": {"": Okx}, "quotes": {"": OkxQuotes}, "book": {"": OkxBook}}
