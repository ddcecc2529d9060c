"""Commits to a Gold that is new, one year and five years old: their time, and the metadata that they write."""

import json
from pathlib import Path
from statistics import median
from typing import Any, Final

from bench.harness.figures import Goal, Grid, Section, number, quantile
from bench.harness.processes import output
from bench.workloads.lake_age import PARTITIONS, SYMBOLS
from k2.cli.embedded import plan
from k2.cli.embedded.layout import Layout
from k2.cli.embedded.ports import free

_AGES: Final = (0.0, 1.0, 5.0)  # years
_COMMITS: Final = 1000
_QUICK_AGES: Final = (0.0, 0.25)
_QUICK_COMMITS: Final = 25
_LIMIT: Final = 1_000_000  # bytes of metadata that a commit writes
_COLUMNS: Final = (
    "age", "commit p50", "commit p95", "metadata a commit p50", "largest", "plan an hour", "trim", "maintenance round",
    "snapshots", "tags",
)  # fmt: skip


def run(folder: Path, *, quick: bool, rounds: int) -> Section:
    """Measure each age in a lake of its own."""
    ages, commits = (_QUICK_AGES, _QUICK_COMMITS) if quick else (_AGES, _COMMITS)
    rows: list[list[str]] = []
    largest = 0
    for age in ages:
        measured = _measure(folder / f"{age:g}", age, commits)
        largest = max(largest, *measured["metadata"])
        rows.append(_row(age, measured))
        print(f"  {'  '.join(f'{name}: {cell}' for name, cell in zip(_COLUMNS, rows[-1], strict=True))}", flush=True)
    return Section(
        "lake-age",
        "The lake as it ages",
        method=[
            "The state of each age is built at once through Iceberg's API: a file of Gold for each hour (43,800 in "
            "five years), and the snapshots and tags that maintenance retains, with summaries of a topic of "
            f"{PARTITIONS} partitions. Then Gold's writer commits {commits:,} batches of a trade of each of {SYMBOLS} "
            "symbols; maintenance trims the history after every sixtieth. PyIceberg plans one hour without having read "
            "anything before. The files of old hours are links to one file. No audit is measured.",
        ],
        grids=[Grid("medians", _COLUMNS, rows)],
        goals=[
            Goal(
                "a commit writes at most 1 MB of metadata at any age",
                f"{number(largest / 1000)} kB",
                largest <= _LIMIT,
                "the snapshots that are retained, and a manifest that is merged, take more",
            )
        ],
    )


def _measure(folder: Path, age: float, commits: int) -> dict[str, Any]:
    layout = Layout.at(folder)
    layout.root.mkdir(parents=True, exist_ok=True)
    platform = layout.platform(kafka_port=free(), registry_port=free())
    words = ("-m", "bench.workloads.lake_age", str(age), str(commits))
    printed = output(f"the lake of {age:g} years", *words, env=plan.environment(platform))
    measured: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return measured


def _row(age: float, measured: dict[str, Any]) -> list[str]:
    seconds, metadata = measured["commit"], measured["metadata"]
    return [
        f"{age:g} years",
        f"{number(median(seconds))} s",
        f"{number(quantile(seconds, 0.95))} s",
        f"{number(median(metadata) / 1000)} kB",
        f"{number(max(metadata) / 1000)} kB",
        f"{number(median(measured['plan']))} s",
        f"{number(median(measured['trim']))} s" if measured["trim"] else "none",
        f"{number(measured['maintenance'])} s",
        str(measured["snapshots"]),
        str(measured["tags"]),
    ]
