"""Quotes and order books: the bytes that they take in Gold."""

from pathlib import Path
from typing import Final

from bench.harness import sizes
from bench.harness.figures import Section
from k2.schemas.channels import BOOK, QUOTES

_BYTES: Final = {QUOTES.name: ("quote", 7.5), BOOK.name: ("level", 4.0)}  # after compaction


def run(folder: Path, *, quick: bool, rounds: int) -> Section:
    """Measure both channels, each in a lake of its own. Raises `BenchFailed` without recorded frames."""
    section = Section("books", "Quotes and order books")
    section.method = (
        "Input: quotes, changes and snapshots of the books of two symbols, recorded from Binance spot in 2024. They "
        "are written to Gold in commits of 2,000 records through the transforms of the layers, then compacted. A level "
        "is a price with its quantity in a change or in a snapshot; the bytes are those of the files, all columns.",
    )
    for channel, (unit, limit) in _BYTES.items():
        sizes.add(section, unit, sizes.measure(folder / channel, channel), after=limit)
    return section
