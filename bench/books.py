"""Quotes and order books: the book at an instant, and the bytes that they take in Gold."""

import json
from pathlib import Path
from typing import Final

from bench.harness import sizes
from bench.harness.figures import K2, Figure, Goal, Section, number, quantile
from bench.harness.processes import output
from k2.schemas.channels import BOOK, QUOTES

_INSTANT: Final = 50.0  # milliseconds
_BYTES: Final = {QUOTES.name: ("quote", 7.5), BOOK.name: ("level", 4.0)}  # after compaction


def run(folder: Path, *, quick: bool, rounds: int) -> Section:
    """Measure books at instants, then the sizes of both channels, each in a lake of its own.

    Raises `BenchFailed` without recorded frames.
    """
    section = Section("books", "Quotes and order books")
    section.method = (
        "Input: quotes, changes and snapshots of the books of two symbols, recorded from Binance spot in 2024. They "
        "are written to Gold in commits of 2,000 records through the transforms of the layers, then compacted. A level "
        "is a price with its quantity in a change or in a snapshot; the bytes are those of the files, all columns.",
    )
    _instants(section, folder / "instants", *((2, 40) if quick else (24, 300)))
    for channel, (unit, limit) in _BYTES.items():
        sizes.add(section, unit, sizes.measure(folder / channel, channel), after=limit)
    return section


def _instants(section: Section, folder: Path, hours: int, count: int) -> None:
    """Measure queries of one book at random instants of some hours."""
    words = ("-m", "bench.workloads.book_queries", str(folder), str(hours), str(count))
    measured = json.loads(output("instants", *words, env={}).splitlines()[-1])
    milliseconds = measured["milliseconds"]
    section.method = (
        *section.method,
        f"Book at an instant: {hours} hours of one symbol in Gold, {measured['rows']:,} messages, which repeat the "
        f"recording from a snapshot on; {count} random instants, the whole book of each as Arrow, in the same process.",
    )
    p50, p99 = quantile(milliseconds, 0.5), quantile(milliseconds, 0.99)
    section.figures += [
        Figure(K2, "book at an instant, p50", "ms", [p50]),
        Figure(K2, "book at an instant, p99", "ms", [p99]),
    ]
    target = f"p99 of the book at an instant below {_INSTANT:.0f} ms"
    section.goals.append(
        Goal(target, f"{number(p99)} ms", p99 < _INSTANT, f"half of them took {number(p50)} ms or less")
    )
