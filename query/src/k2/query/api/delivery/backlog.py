"""What queries have computed and their clients have not read yet: in memory, then on disk, both bounded.

A query holds its slot while it computes, and not while its client reads. Where neither memory nor disk has room, the
query waits for its client and keeps the slot, but not for long while others wait for it.
"""

import asyncio
import os
import tempfile
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from typing import Final

from anyio import to_thread

from k2.common import logs
from k2.query.api.encoding.formats import Chunk

_MB: Final = 1_000_000
_MEMORY: Final = 96 * _MB  # of all responses
_MEMORY_EACH: Final = 16 * _MB  # a batch of trades has 8 to 10 MB
_DISK_SHARE: Final = 4  # one response takes at most this part of the disk's limit
_SEND_BYTES: Final = 1024 * 1024  # per ASGI message: each is copied, and allocating more costs more than the copy
_READ_BYTES: Final = 256 * 1024  # from disk at a time: what every client that reads slowly costs
_POLL: Final = 0.5  # seconds

_log = logs.get("api")


class TooSlow(Exception):
    """A client that reads too slowly holds a slot that others wait for."""


class Backlog:
    """The bytes that all responses together keep for their clients; `disk_limit` is that of the bytes on disk."""

    def __init__(self, disk_limit: int) -> None:
        self.disk_limit = disk_limit
        self.in_memory = 0
        self.on_disk = 0


@dataclass(frozen=True, slots=True)
class _InMemory:
    """Chunks in memory. Not `counted`: beyond the limits, so the slot of the query stands for them."""

    chunks: Sequence[Chunk]
    size: int
    counted: bool


@dataclass(frozen=True, slots=True)
class _OnDisk:
    """A part of the file."""

    position: int
    size: int


class Unread:
    """The chunks of one response, in order. One task adds them, another one takes them.

    Args:
        backlog: What all responses keep.
        contended: Whether others wait for the slot of the query.
        patience: Seconds that the query waits for its client meanwhile.

    """

    def __init__(self, backlog: Backlog, contended: Callable[[], bool], patience: float = 5.0) -> None:
        self._backlog, self._contended, self._patience = backlog, contended, patience
        self._entries: deque[_InMemory | _OnDisk] = deque()
        self._taken_entry: _InMemory | _OnDisk | None = None
        self._in_memory = self._end = 0
        self._file: FileIO | None = None
        self._file_lock = threading.Lock()  # a thread may still write when its task was cancelled
        self._closed = False
        self._writing = self._complete = False
        self._error: Exception | None = None
        self._added, self._taken = asyncio.Event(), asyncio.Event()

    async def add(self, chunks: Sequence[Chunk]) -> None:
        """Add chunks, and wait for room first. Raises `TooSlow`."""
        size = sum(map(len, chunks))
        patience = self._patience
        while not (self._keep(chunks, size) or await self._spill(chunks, size) or self._hand_over(chunks, size)):
            patience = await self._wait(patience)

    async def complete(self) -> None:
        """Say that nothing follows, and wait until the rest is within the limits. Raises `TooSlow`."""
        self._complete = True
        self._added.set()
        patience = self._patience
        while any(isinstance(entry, _InMemory) and not entry.counted for entry in self._outstanding()):
            patience = await self._wait(patience)

    def fail(self, error: Exception) -> None:
        """Raise this error where the chunks are taken, instead of what is left of them."""
        self._error = error
        self._added.set()

    async def take(self) -> AsyncGenerator[memoryview]:
        """Yield what to send until all was taken; what was yielded counts until the next is asked for."""
        while True:
            if self._error is not None:
                raise self._error
            if not self._entries:
                if self._complete:
                    return
                self._added.clear()
                await self._added.wait()
                continue
            self._taken_entry = entry = self._entries.popleft()
            if isinstance(entry, _InMemory):
                for piece in _pieces(entry.chunks):
                    yield piece
            else:
                for position in range(entry.position, entry.position + entry.size, _READ_BYTES):
                    size = min(_READ_BYTES, entry.position + entry.size - position)
                    yield memoryview(await to_thread.run_sync(self._read, position, size))
            self._release(entry)

    def close(self) -> None:
        """Forget what is left."""
        self._entries.clear()
        self._backlog.in_memory -= self._in_memory
        self._in_memory = 0
        with self._file_lock:
            self._closed = True
            self._truncate()
            if self._file is not None:
                self._file.close()
                self._file = None

    def _outstanding(self) -> Iterator[_InMemory | _OnDisk]:
        if self._taken_entry is not None:
            yield self._taken_entry
        yield from self._entries

    def _keep(self, chunks: Sequence[Chunk], size: int) -> bool:
        if self._in_memory + size > _MEMORY_EACH or self._backlog.in_memory + size > _MEMORY:
            return False
        self._in_memory += size
        self._backlog.in_memory += size
        self._append(_InMemory(chunks, size, counted=True))
        return True

    async def _spill(self, chunks: Sequence[Chunk], size: int) -> bool:
        limit = self._backlog.disk_limit
        if self._end + size > limit // _DISK_SHARE or self._backlog.on_disk + size > limit:
            return False
        position = self._end
        self._end += size
        self._backlog.on_disk += size
        self._writing = True
        try:
            await to_thread.run_sync(self._write, chunks, position)
        except OSError as error:
            _log.warning("unread responses cannot be kept on disk", why=error.strerror)
            self._end -= size
            self._backlog.on_disk -= size
            return False
        finally:
            self._writing = False
        self._append(_OnDisk(position, size))
        return True

    def _hand_over(self, chunks: Sequence[Chunk], size: int) -> bool:
        """Add the chunks if the client has taken all others."""
        if any(True for _ in self._outstanding()):
            return False
        self._append(_InMemory(chunks, size, counted=False))
        return True

    def _append(self, entry: _InMemory | _OnDisk) -> None:
        self._entries.append(entry)
        self._added.set()

    def _release(self, entry: _InMemory | _OnDisk) -> None:
        self._taken_entry = None
        if isinstance(entry, _InMemory) and entry.counted:
            self._in_memory -= entry.size
            self._backlog.in_memory -= entry.size
        elif not self._writing and not any(isinstance(other, _OnDisk) for other in self._entries):
            self._truncate()
        self._taken.set()

    async def _wait(self, patience: float) -> float:
        """Wait until something was taken, for a moment; return what is left of the patience."""
        self._taken.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._taken.wait(), _POLL)
            return patience
        if not self._contended():
            return self._patience
        if patience <= 0:
            raise TooSlow("the client reads too slowly while other queries wait")
        return patience - _POLL

    def _write(self, chunks: Sequence[Chunk], position: int) -> None:
        with self._file_lock:
            if self._closed:
                return
            if self._file is None:
                descriptor, name = tempfile.mkstemp(prefix="k2-unread-")
                os.unlink(name)  # noqa: PTH108 - a file without a name ends with the process
                self._file = FileIO(descriptor, "r+")
            for chunk in chunks:
                view = memoryview(chunk).cast("B")
                while view:
                    written = os.pwrite(self._file.fileno(), view, position)
                    view, position = view[written:], position + written

    def _read(self, position: int, size: int) -> bytes:
        with self._file_lock:
            return b"" if self._file is None else os.pread(self._file.fileno(), size, position)

    def _truncate(self) -> None:
        self._backlog.on_disk -= self._end
        self._end = 0
        if self._file is not None:
            self._file.truncate(0)


def _pieces(chunks: Sequence[Chunk]) -> Iterator[memoryview]:
    for chunk in chunks:
        view = memoryview(chunk)
        for at in range(0, len(view), _SEND_BYTES):
            yield view[at : at + _SEND_BYTES]
