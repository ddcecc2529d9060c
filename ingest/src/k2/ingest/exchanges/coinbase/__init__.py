"""Coinbase Exchange."""

from k2.ingest.exchanges.coinbase.parse import Coinbase

CHANNELS = {"trades": {"": Coinbase}}
