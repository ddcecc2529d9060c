"""Chunked scans: the same rows in the same order as in one scan, and no more files than needed."""

import threading
import time
from contextlib import closing
from datetime import timedelta
from itertools import product
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from k2.cli.embedded.layout import Layout
from k2.query.engine import Engine
from k2.query.errors import BadQuery, Unavailable
from k2.query.execution import cancellation, chunked_scan, top_n
from k2.query.execution.cancellation import Interrupt
from k2.query.iceberg import data_files
from k2.query.iceberg.scan_planner import ScanPlan
from k2.query.sql.trade_sql import TRADE_LIST
from k2.schemas.tables import GOLD
from tests.unit.query.conftest import NOON, Append, trade

HOUR = timedelta(hours=1)
SPLIT = chunked_scan.split


def set_chunk_rows(monkeypatch: pytest.MonkeyPatch, max_rows: int) -> None:
    """Limit chunks to this many rows or one hour, and the first read of a top-N scan to this many rows."""
    monkeypatch.setattr(chunked_scan, "split", lambda plan, _: SPLIT(plan, max_rows))
    monkeypatch.setattr(top_n, "_FIRST_READ_ROWS", max_rows)


def fill(append: Append) -> None:
    """Append six hours of trades, late ones among them; the second hour has none."""
    for hour in (0, 2, 3, 4, 5):
        append([trade(10 * hour + number, hour * HOUR + timedelta(minutes=7 * number)) for number in range(6)])
    append([trade(90 + hour, hour * HOUR + timedelta(minutes=3), symbol="ETHUSDT") for hour in (0, 4)])
    append([trade(7, timedelta(minutes=2), exchange="KRAKEN"), trade(8, 5 * HOUR, exchange="KRAKEN")])


def test_chunks_are_whole_hours_in_order(engine: Engine, append: Append) -> None:
    fill(append)
    plan = engine._planner.plan(GOLD)
    assert [len(chunk.files) for chunk in chunked_scan.split(plan, 1)] == [3, 1, 1, 2, 2]
    chunks = chunked_scan.split(plan, 14)
    assert [len(chunk.files) for chunk in chunks] == [4, 3, 2]
    assert sorted(path for chunk in chunks for path in chunk.files) == sorted(plan.files)
    assert len(chunked_scan.split(plan, chunked_scan.CHUNK_ROWS)) == 1


@pytest.mark.parametrize("top_n_limit", [0, 1000])
@pytest.mark.parametrize("max_rows", [1, 14])
def test_a_chunked_result_equals_that_of_one_chunk(
    engine: Engine, append: Append, monkeypatch: pytest.MonkeyPatch, max_rows: int, top_n_limit: int
) -> None:
    fill(append)
    monkeypatch.setattr("k2.query.execution.record_scan._TOP_N_LIMIT", top_n_limit)
    positions = [None] + [TRADE_LIST.position_of(row) for row in engine.trades().to_pylist()[::5]]
    starts, ends = (None, NOON + timedelta(minutes=20), NOON + 3 * HOUR), (None, NOON + 4 * HOUR)
    for start, end, limit, beyond in product(starts, ends, (None, 1, 4, 9, 100), positions):
        query = {"symbol": "BTCUSDT", "start": start, "end": end, "limit": limit, "beyond": beyond}
        if beyond and limit is None:
            continue
        set_chunk_rows(monkeypatch, 1000)
        whole = engine.trades(**query)
        set_chunk_rows(monkeypatch, max_rows)
        assert engine.trades(**query).equals(whole), query


def test_the_newest_or_first_rows_are_read_without_other_files(
    engine: Engine, append: Append, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(append)
    set_chunk_rows(monkeypatch, 1)
    plan = engine._planner.plan(GOLD)
    middle = sorted(set(plan.hours))[2]
    for hour, path in zip(plan.hours, data_files.paths(plan), strict=True):
        if hour == middle:
            Path(path).unlink()
    assert [row["trade_id"] for row in engine.trades(limit=2).to_pylist()] == ["54", "55"]
    assert [row["trade_id"] for row in engine.trades(start=NOON, limit=2).to_pylist()] == ["0", "7"]
    with pytest.raises(Unavailable):
        engine.trades()


def test_files_of_one_hour_are_ordered_by_their_bounds(
    engine: Engine, append: Append, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files before compaction. The fourth arrived late and overlaps the third."""
    for number, (first, last) in enumerate([(0, 9), (10, 19), (20, 29), (25, 39), (40, 49)]):
        append([trade(100 * number + at, timedelta(seconds=at)) for at in range(first, last + 1)])
    set_chunk_rows(monkeypatch, 1)
    plan = engine._planner.plan(GOLD)
    by_time = [path for _, path in sorted(zip(plan.times, data_files.paths(plan), strict=True))]
    Path(by_time[0]).unlink()
    newest = engine.trades(limit=22).column("trade_id").to_pylist()
    assert newest == ["228", "328", "229", "329", *map(str, range(330, 340)), *map(str, range(440, 450))][-22:]
    overlapping = engine.trades(limit=4, end=NOON + timedelta(seconds=30)).column("trade_id").to_pylist()
    assert overlapping == ["228", "328", "229", "329"]
    assert engine.trades(limit=2, start=NOON + timedelta(seconds=10)).column("trade_id").to_pylist() == ["110", "111"]
    Path(by_time[4]).unlink()
    with pytest.raises(Unavailable):
        engine.trades(limit=2)


def test_a_symbol_that_was_never_traded_is_an_error_after_all_chunks(
    engine: Engine, append: Append, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(append)
    set_chunk_rows(monkeypatch, 1)
    assert engine.trades(symbol="ETHUSDT", start=NOON + HOUR, end=NOON + 2 * HOUR).num_rows == 0
    with pytest.raises(BadQuery, match="no trade of"):
        engine.trades(symbol="XRPUSDT", limit=3)


def test_only_the_next_chunk_is_prefetched_while_one_is_read(
    engine: Engine, append: Append, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(append)
    calls: list[tuple[str, Interrupt | None]] = []
    read = engine._trades.read

    def recorded(chunk: ScanPlan, statement: str, parameters: dict[str, Any]) -> pa.RecordBatchReader:
        calls.append((threading.current_thread().name, cancellation._active.get()))
        return read(chunk, statement, parameters)

    monkeypatch.setattr(engine._trades, "read", recorded)
    set_chunk_rows(monkeypatch, 1)
    stop = Interrupt()
    with stop.scope():
        reader = engine.trades_reader()
        reader.read_next_batch()
        reader.read_next_batch()
        deadline = time.monotonic() + 10
        while len(calls) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        del reader
    here = threading.current_thread().name
    assert [(name == here, interrupt) for name, interrupt in calls] == [(True, stop), (False, stop), (False, stop)]


def test_a_result_that_is_abandoned_keeps_the_callers_error(
    layout: Layout, append: Append, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(append)
    set_chunk_rows(monkeypatch, 1)
    engine = Engine(layout.platform())
    read = engine._trades.read

    def slow(chunk: ScanPlan, statement: str, parameters: dict[str, Any]) -> pa.RecordBatchReader:
        if threading.current_thread().name.startswith("k2-prefetch"):
            return read(
                chunk,
                f"SELECT * FROM ({statement}) WHERE (SELECT max(hash(i)) FROM range(50_000_000) t(i)) > 0",
                parameters,
            )
        return read(chunk, statement, parameters)

    monkeypatch.setattr(engine._trades, "read", slow)
    reader = engine.trades_reader()
    with pytest.raises(BrokenPipeError), closing(engine):
        raise BrokenPipeError(reader.read_next_batch().num_rows)
