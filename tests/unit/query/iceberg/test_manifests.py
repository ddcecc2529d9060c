"""Planning from cached manifests: the same files as Iceberg's own planner, and no manifest read twice."""

import random
from datetime import datetime, timedelta
from functools import reduce
from math import inf
from pathlib import Path

import pytest
from pyiceberg.expressions import AlwaysTrue, And, BooleanExpression, EqualTo, GreaterThanOrEqual, IsNull, Or

from k2.query.engine import Engine
from k2.query.errors import Unavailable
from k2.query.iceberg.manifests import ManifestCache, hour_range
from k2.query.sql.record_sql import RecordFilter
from k2.schemas.tables import GOLD
from tests.unit.query.conftest import NOON, Append, trade

HOUR = timedelta(hours=1)
NOON_HOUR = int(NOON.timestamp()) // 3600


def expression(start: datetime | None, end: datetime | None, symbol: str | None = None) -> BooleanExpression:
    return RecordFilter.of(symbol, None, start, end).expression("timestamp")


def fill(append: Append) -> None:
    """Append three days of trades: eight commits a day, of one to three hours each."""
    for number in range(24):
        rows = [trade(10 * number + one, (3 * number + one + 1) * HOUR) for one in range(number % 3 + 1)]
        append([{**row, "symbol": "ETHUSDT"} for row in rows] if number % 5 == 0 else rows)


@pytest.mark.parametrize("max_files", [1, 20_000])
def test_the_files_equal_those_of_icebergs_own_planner(engine: Engine, append: Append, max_files: int) -> None:
    fill(append)
    table = engine.catalog.load_table(("market_data", GOLD))
    manifests, chance = ManifestCache(max_files), random.Random(2)
    moments = [None, *(NOON + chance.random() * 80 * HOUR for _ in range(60))]
    expressions = [
        AlwaysTrue(),
        EqualTo(term="symbol", value="ETHUSDT"),
        Or(expression(NOON, None), AlwaysTrue()),
    ]
    for _ in range(60):
        parts = []
        for _ in range(chance.choice((1, 1, 2, 3))):
            start, end = chance.sample(moments, 2)
            start, end = (end, start) if start and end and start > end else (start, end)
            parts.append(expression(start, end, chance.choice((None, "BTCUSDT", "ETHUSDT"))))
        expressions.append(reduce(Or, parts))
    for snapshot in chance.sample(table.snapshots(), 3):
        for where in expressions:
            files = manifests.files(table, snapshot, where)
            scan = table.scan(row_filter=where, snapshot_id=snapshot.snapshot_id)
            assert files is not None
            assert [file.file_path for file in files] == [task.file.file_path for task in scan.plan_files()], where


def test_the_hour_range_covers_every_possible_row() -> None:
    minute = timedelta(minutes=1)
    assert hour_range(AlwaysTrue()) == hour_range(EqualTo(term="symbol", value="BTCUSDT")) == (-inf, inf)
    assert hour_range(expression(NOON, NOON + HOUR - minute)) == (NOON_HOUR, NOON_HOUR)
    assert hour_range(expression(NOON - minute, None, "BTCUSDT")) == (NOON_HOUR - 1, inf)
    first, last = expression(None, NOON - HOUR), expression(NOON + HOUR, NOON + 2 * HOUR)
    assert hour_range(Or(first, last)) == (-inf, NOON_HOUR + 2)
    assert hour_range(And(first, last)) == (NOON_HOUR + 1, NOON_HOUR - 1)


def test_the_hour_range_covers_rows_whose_first_times_are_null() -> None:
    columns = ("timestamp", "venue_time", "ingestion_timestamp")
    bounded = RecordFilter.of(None, None, NOON, NOON + 2 * HOUR).expression(*columns)
    assert hour_range(bounded) == (NOON_HOUR, NOON_HOUR + 2)
    other = And(IsNull(term="symbol"), GreaterThanOrEqual(term="ingestion_timestamp", value=NOON.isoformat()))
    assert hour_range(other) == (-inf, inf)


def test_a_manifest_is_read_once_and_only_if_its_hours_overlap(engine: Engine, append: Append) -> None:
    append([trade(1)])
    append([trade(2, 30 * HOUR)])
    assert engine.trades(start=NOON, end=NOON + HOUR).num_rows == 1
    for manifest in metadata(engine):
        Path(manifest).unlink()
    assert engine.trades(start=NOON, end=NOON + HOUR / 2).num_rows == 1
    with pytest.raises(Unavailable):
        engine.trades(start=NOON, end=NOON + 31 * HOUR)


def test_a_manifest_of_several_days_includes_its_first_and_last_hour(engine: Engine, append: Append) -> None:
    append([trade(1, 12 * HOUR), trade(2, 40 * HOUR), trade(3, 59 * HOUR)])  # midnight, and 23:00 of the day after
    for number, hour in (("1", 12), ("3", 59)):
        files = engine.trades(start=NOON + hour * HOUR, end=NOON + (hour + 1) * HOUR)
        assert files.column("trade_id").to_pylist() == [number]


def test_an_evicted_manifest_is_read_again(engine: Engine, append: Append) -> None:
    for number in range(3):
        append([trade(number, number * HOUR)])
    table = engine.catalog.load_table(("market_data", GOLD))
    snapshot, manifests = table.current_snapshot(), ManifestCache(2)
    assert snapshot is not None
    for _ in range(2):
        files = manifests.files(table, snapshot, AlwaysTrue())
        assert files is not None
        assert len(files) == 3
    assert sum(len(entries) for entries in manifests._entries.values()) == manifests._count == 2


def metadata(engine: Engine) -> list[str]:
    table = engine.catalog.load_table(("market_data", GOLD))
    snapshot = table.current_snapshot()
    assert snapshot is not None
    return [manifest.manifest_path.removeprefix("file://") for manifest in snapshot.manifests(table.io)]
