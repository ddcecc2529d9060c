"""The feed of a simulation: what it wants changes while its processes run."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from k2.ingest.connection.listing import UNLISTED
from k2.ingest.instruments.directory import Directory, ShardSymbols
from k2.ingest.simulator.listings import pair_of
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.feed.model import ExchangeFeed
from k2.schemas.sharding import Counts

FEED = "spot"


class Feed:
    """An ExchangeFeed, by names or by a selector, with or without the exchange's instrument list."""

    def __init__(
        self,
        exchange: str,
        raw_symbols: Sequence[str],
        *,
        follows_list: bool,
        selects: bool,
        ingest: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self.exchange, self.follows_list = exchange, follows_list
        self._raw_symbols, self._selects = list(raw_symbols), selects and follows_list
        self.removed: list[str] = []  # raw symbols that are not wanted for now
        self.changes = 0
        self._ingest = dict(ingest)
        self._apply()

    @property
    def wanted(self) -> list[str]:
        """The raw symbols that it wants now."""
        return [name for name in self._raw_symbols if name not in self.removed]

    def remove(self, raw_symbol: str) -> None:
        """Want a symbol no more."""
        self.removed.append(raw_symbol)
        self._apply()

    def add(self, raw_symbol: str) -> None:
        """Want a symbol again."""
        self.removed.remove(raw_symbol)
        self._apply()

    def directory(self) -> Directory:
        """Return what a process that starts knows of instruments."""
        spec = EXCHANGES[self.exchange]
        return Directory(spec) if self.follows_list else _WithoutList(spec)

    def reader(self) -> "Reader":
        """Return what a process sees of changes from now on."""
        return Reader(self)

    def _apply(self) -> None:
        self.changes += 1
        spec = EXCHANGES[self.exchange]
        quotes = sorted({pair_of(spec, name).quote for name in self._raw_symbols})
        symbols = {"symbolSelector": {"quotes": quotes, "exclude": self.removed}} if self._selects else {
            "symbols": self.wanted
        }  # fmt: skip
        self.current = ExchangeFeed.from_body(
            {
                "apiVersion": "k2.marketdata.io/v1alpha1",
                "kind": "ExchangeFeed",
                "metadata": {"name": FEED},
                "spec": {"exchange": self.exchange, "ingest": self._ingest, **symbols},
            }
        )


class Reader:
    """The file of a feed, as one process reads it."""

    def __init__(self, feed: Feed) -> None:
        self._feed, self._read = feed, feed.changes

    def changed(self) -> ExchangeFeed | None:
        """Return the feed if it changed since the last call."""
        if self._read == self._feed.changes:
            return None
        self._read = self._feed.changes
        return self._feed.current


class _WithoutList(Directory):
    """The exchange lists nothing that could be read: its answers on the websocket are all that is known."""

    def shard(self, feed: ExchangeFeed, index: int, counts: Counts = ()) -> ShardSymbols:
        """Return the feed's symbols, with assets as they are written."""
        return ShardSymbols([pair_of(self._spec, name.raw_symbol) for name in feed.shard(index, counts=counts)])

    def trading(self, raw_symbol: str) -> bool | None:
        """Return None: nothing is known."""
        return UNLISTED.trading(raw_symbol)
