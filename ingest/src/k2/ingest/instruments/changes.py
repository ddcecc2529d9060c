"""Changes of a shard's symbols while it runs: in the feed's file, and in the exchange's instrument list."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from k2.common import logs
from k2.common.validation_errors import InvalidSpec
from k2.ingest.instruments.directory import Directory
from k2.ingest.telemetry.stats import Stats
from k2.schemas.exchanges.spec import Pair
from k2.schemas.feed.model import ExchangeFeed

log = logs.get("symbols")

_POLL: Final = 5.0  # seconds; Kubernetes takes up to a minute to update a file


class FeedFile:
    """The file of a feed, which may change while the process runs."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._content = path.read_bytes()

    def changed(self) -> ExchangeFeed | None:
        """Return the feed if its file has changed and is valid; a file that is not is logged once."""
        try:
            content = self._path.read_bytes()
            if content == self._content:
                return None
            self._content = content
            return ExchangeFeed.from_yaml(content)
        except (OSError, InvalidSpec) as error:
            log.warning("changed feed file ignored", path=str(self._path), error=str(error))
            return None


class SymbolChanges:
    """Calls `apply` with all pairs of the shard, and with those that are new, whenever they change."""

    def __init__(
        self,
        feed: ExchangeFeed,
        shard: int,
        directory: Directory,
        stats: Stats,
        apply: Callable[[Sequence[Pair], Sequence[Pair]], Awaitable[None]],
        file: FeedFile | None = None,
    ) -> None:
        self._feed = feed
        self._shard = shard
        self._directory = directory
        self._stats = stats
        self._apply = apply
        self._file = file
        self._pairs = self.pairs()
        self._symbols = {pair.symbol for pair in self._pairs}  # all that the shard ever had

    def pairs(self) -> list[Pair]:
        """Return the pairs of the shard now, and note which are halted and what a selector leaves out."""
        symbols = self._directory.shard(self._feed, self._shard)
        stats = self._stats
        stats.halted, stats.matching, stats.left_out = symbols.halted, symbols.matching, symbols.left_out
        return symbols.pairs

    async def run(self) -> None:
        """Apply changes until cancelled."""
        while True:
            await asyncio.sleep(_POLL)
            if self._file is not None and (feed := self._file.changed()) is not None:
                self._feed = feed
            pairs = self.pairs()
            if pairs == self._pairs:
                continue
            added = [pair for pair in pairs if pair.symbol not in self._symbols]
            log.info("symbols changed", before=len(self._pairs), now=len(pairs), new=len(added))
            self._symbols |= {pair.symbol for pair in added}
            self._pairs = pairs
            await self._apply(pairs, added)
