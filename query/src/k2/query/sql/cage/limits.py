"""What one statement may use, and the sentence for each limit that it reaches."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Final

from k2.query.errors import BadQuery, TooLarge

_MB: Final = 1_000_000
_UNITS: Final = {
    "KB": 1000, "MB": 1000**2, "GB": 1000**3, "TB": 1000**4,
    "KIB": 1024, "MIB": 1024**2, "GIB": 1024**3, "TIB": 1024**4,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one statement: bytes and seconds."""

    memory: int = 1000 * _MB  # DuckDB's own limit; the address space has `HEADROOM` more
    cpu_seconds: float = 3600.0  # of all threads together
    wall_seconds: float = 3600.0  # from the first row read to the last one taken by the client
    output_bytes: int = 1 << 40
    row_bytes: int = 32 * _MB  # one row of a result, and one message between the processes

    def exceeded(self, status: int) -> BadQuery:
        """Return the error of a process that the kernel ended; `status` is negative for a signal."""
        match -status:
            case signal.SIGXCPU:
                return TooLarge(f"the statement used more than {self.cpu_seconds:g} s of CPU time; narrow it")
            case signal.SIGALRM:
                return TooLarge(f"the statement took longer than {self.wall_seconds:g} s; narrow it")
            case signal.SIGSEGV | signal.SIGABRT | signal.SIGBUS | signal.SIGKILL | signal.SIGILL | signal.SIGTRAP:
                return TooLarge(
                    f"the statement exceeds its memory, {self.memory // _MB} MB, or is nested too deeply; simplify it"
                )
        return BadQuery("the process of the statement ended early; simplify the statement")

    def out_of_memory(self) -> TooLarge:
        """Return the error of a statement that needs more memory."""
        return TooLarge(
            f"the statement exceeds the memory limit of {self.memory // _MB} MB; narrow the range or the columns"
        )

    def too_much_output(self) -> TooLarge:
        """Return the error of a result that is too large."""
        return TooLarge(f"the result has more than {self.output_bytes // _MB} MB; add a LIMIT or narrow the query")

    def row_too_large(self) -> TooLarge:
        """Return the error of a result with a row that is too large."""
        return TooLarge(f"a row of the result has more than {self.row_bytes // _MB} MB; select less of it")


HEADROOM: Final = 384 * _MB  # of address space beyond DuckDB's limit: stacks of threads, heaps of the allocator, Arrow


def parse_memory(text: str) -> int:
    """Return the bytes of a size in DuckDB's notation, such as 1GB or 300 MiB."""
    amount = text.rstrip("KMGTiB ")
    return int(float(amount) * _UNITS[text[len(amount) :].strip().upper()])
