"""Lakes that several tests begin with: built once by a worker, afterwards restored.

Iceberg never changes a file, so a lake is saved as what its catalog points to and a copy of its checkpoints. A test
that removes files (expiry, orphans, purge) must build its own.
"""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tests.spark.builders import Lake

T = TypeVar("T")

_SELECT = "SELECT * FROM iceberg_tables"


@dataclass(frozen=True, slots=True)
class _Saved:
    tables: list[tuple[Any, ...]]
    checkpoints: Path
    offsets: dict[tuple[str, int], int]
    epoch: int
    result: Any


_saved: dict[tuple[str, Callable[[Lake], Any]], _Saved] = {}


def prepared(lake: Lake, build: Callable[[Lake], T]) -> T:
    """Fill an empty lake by `build`, or restore what `build` once made; return what it returned."""
    key = lake.platform.catalog_uri, build
    if key in _saved:
        _restore(lake, _saved[key])
    else:
        result = build(lake)
        _saved[key] = _save(lake, result)
    return _saved[key].result


def rows(lake: Lake) -> list[tuple[Any, ...]]:
    """Return what the catalog points to."""
    with closing(_catalog(lake)) as catalog:
        return catalog.execute(_SELECT).fetchall()


def point(lake: Lake, tables: list[tuple[Any, ...]]) -> None:
    """Let the catalog point to these tables and to no others."""
    with closing(_catalog(lake)) as catalog, catalog:
        catalog.execute("DELETE FROM iceberg_tables")
        values = ", ".join("?" * len(tables[0]))
        catalog.executemany(f"INSERT INTO iceberg_tables VALUES ({values})", tables)


def _save(lake: Lake, result: Any) -> _Saved:
    folder = Path(lake.platform.checkpoints)
    copy = folder.with_name("saved")
    shutil.copytree(folder, copy)
    return _Saved(rows(lake), copy, dict(lake.offsets), lake.epoch, result)


def _restore(lake: Lake, saved: _Saved) -> None:
    point(lake, saved.tables)
    shutil.copytree(saved.checkpoints, lake.platform.checkpoints)
    lake.offsets.update(saved.offsets)
    lake.epoch = saved.epoch


def _catalog(lake: Lake) -> sqlite3.Connection:
    return sqlite3.connect(lake.platform.catalog_uri.removeprefix("sqlite:///"), timeout=30)
