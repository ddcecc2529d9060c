"""Binance spot."""

from k2.ingest.exchanges.binance.parse import Binance

CHANNELS = {"trades": {"": Binance}}
