"""OKX spot."""

from k2.ingest.exchanges.okx.parse import Okx

PROTOCOLS = {"": Okx}
