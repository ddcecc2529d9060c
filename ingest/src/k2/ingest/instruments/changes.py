"""Changes of a shard's symbols while it runs: by the feed's file, the exchange's list, or the number of shards."""

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
from k2.schemas.sharding import Counts, UnreadableSharding, decode

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


class SpreadFile:
    """The file with the numbers of shards, which may change while the process runs."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._counts: Counts = ()
        self._reported = ""

    def counts(self) -> Counts:
        """Return what the file says; what it said before if it cannot be read, which is logged once."""
        try:
            self._counts = decode(self._path.read_bytes())
            self._reported = ""
        except (OSError, UnreadableSharding) as error:
            if str(error) != self._reported:
                log.warning("file of shards not read", path=str(self._path), counts=self._counts, error=str(error))
            self._reported = str(error)
        return self._counts


class SymbolChanges:
    """Notes changes of the shard's pairs: `apply` is called with all of them, and with those that are added.

    `read_counts` gives the numbers of shards by which the symbols are spread; none: the feed's own.
    """

    def __init__(
        self,
        feed: ExchangeFeed,
        shard: int,
        directory: Directory,
        stats: Stats,
        file: FeedFile | None = None,
        read_counts: Callable[[], Counts] = tuple,
    ) -> None:
        self._feed = feed
        self._shard = shard
        self._directory = directory
        self._stats = stats
        self._file = file
        self._read_counts = read_counts
        self._counts = read_counts()[:1]
        self.first = self._pairs_now()  # without those that the shard is about to take over from others
        self._pairs = self.first

    async def run(self, apply: Callable[[Sequence[Pair], Sequence[Pair]], Awaitable[None]]) -> None:
        """Apply changes until cancelled."""
        while True:
            if self._file is not None and (feed := self._file.changed()) is not None:
                self._feed = feed
            self._counts = self._read_counts()
            pairs = self._pairs_now()
            if pairs != self._pairs:
                carried = {pair.symbol for pair in self._pairs}
                added = [pair for pair in pairs if pair.symbol not in carried]
                log.info("symbols changed", before=len(carried), now=len(pairs), new=len(added), shards=self._counts)
                self._pairs = pairs
                await apply(pairs, added)
            self._stats.spread = self._counts
            await asyncio.sleep(_POLL)

    def _pairs_now(self) -> list[Pair]:
        """Return the pairs of the shard now, and note which are halted and what a selector leaves out."""
        symbols = self._directory.shard(self._feed, self._shard, self._counts)
        stats = self._stats
        stats.halted, stats.matching, stats.left_out = symbols.halted, symbols.matching, symbols.left_out
        return symbols.pairs
