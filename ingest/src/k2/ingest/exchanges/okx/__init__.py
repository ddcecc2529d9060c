"""OKX spot."""

from k2.ingest.exchanges.okx.parse import Okx

CHANNELS = {"trades": {"": Okx}}
