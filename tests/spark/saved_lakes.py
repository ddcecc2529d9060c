"""Lakes that several tests begin with: built once by a worker, afterwards restored.

Iceberg never changes a file, so a lake is what its catalog points to and its checkpoints; its files are copied too, and
put back where a test has removed them (expiry, purge).
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tests.spark import empty_tables
from tests.spark.builders import Lake
from tests.spark.empty_tables import Entry

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Saved:
    tables: list[Entry]
    files: dict[Path, Path]  # of the tables: each one's copy
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
        before = _files(lake)
        result = build(lake)
        _saved[key] = _save(lake, result, _files(lake) - before)
    return _saved[key].result


def rows(lake: Lake) -> list[Entry]:
    """Return what the catalog points to."""
    return empty_tables.entries(lake.platform)


def point(lake: Lake, tables: list[Entry]) -> None:
    """Let the catalog point to these tables and to no others."""
    empty_tables.remove_all(lake.spark, lake.platform)
    empty_tables.add(lake.platform, tables)


def _files(lake: Lake) -> set[Path]:
    """Return the files of all tables, also of those that are dropped."""
    return {path for path in Path(lake.platform.warehouse.removeprefix("file:")).rglob("*") if path.is_file()}


def _save(lake: Lake, result: Any, files: set[Path]) -> _Saved:
    checkpoints = Path(lake.platform.checkpoints)
    folder = checkpoints.with_name("saved")
    shutil.copytree(checkpoints, folder / "checkpoints")
    copies = {path: folder / str(number) for number, path in enumerate(files)}
    for path, copy in copies.items():
        shutil.copy2(path, copy)
    return _Saved(rows(lake), copies, folder / "checkpoints", dict(lake.offsets), lake.epoch, result)


def _restore(lake: Lake, saved: _Saved) -> None:
    for path, copy in saved.files.items():
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(copy, path)
    point(lake, saved.tables)
    shutil.copytree(saved.checkpoints, lake.platform.checkpoints)
    lake.offsets.update(saved.offsets)
    lake.epoch = saved.epoch
