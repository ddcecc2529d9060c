"""What an audit keeps of the files that it has judged, and what has touched them since."""

from dataclasses import replace
from datetime import date, timedelta

import pytest

from k2.jobs.audit.incremental.anchor import Anchor
from k2.jobs.audit.incremental.file_sets import ALL, FileSet, LiveFile, end, group, start
from k2.schemas.values import to_micros
from tests.spark.builders import HOUR

DAY = date(2026, 3, 2)
AT = to_micros(HOUR)
MICROS = 3_600_000_000


def _file(name: str, hour: int = 10, sequence: int = 1, first: int | None = None) -> LiveFile:
    return LiveFile(name, "data file", 100, 5, f"exchange_date=2026-03-02/exchange_hour={hour}", sequence, first, 7)


FILES = [_file("a"), _file("b"), _file("c", 11, 2)]
JUDGED = FileSet.of(FILES, 2, DAY)


@pytest.mark.parametrize(
    ("partition", "day", "name"),
    [
        ("exchange_date=2026-03-02/exchange_hour=7", DAY, "2026-03-02T07"),
        ("exchange_date=2026-03-02/exchange_hour=7", DAY + timedelta(days=3), "2026-03-02"),
        ("exchange=BINANCE/exchange_date=2026-03-02", DAY, "2026-03-02"),
        ("kafka_timestamp_day=2026-03-02", DAY + timedelta(days=40), "2026-03-02"),
        ("kafka_timestamp_day=2026-03-02", DAY + timedelta(days=41), "2026-03"),
        ("hour_month=2026-03", DAY, "2026-03"),
        ("exchange=BINANCE", DAY, ALL),
        ("", DAY, ALL),
    ],
)
def test_groups_are_hours_of_late_then_days_then_months(partition: str, day: date, name: str):
    assert group(partition, day) == name


def test_a_group_has_a_begin_and_an_end():
    assert (start("2026-03-02T10"), end("2026-03-02T10")) == (AT, AT + MICROS)
    assert (start("2026-03-02"), end("2026-03-02")) == (AT - 10 * MICROS, AT + 14 * MICROS)
    assert (end("2026-03") - start("2026-03")) // MICROS == 31 * 24
    assert (start(ALL), end(ALL)) == (0, 0)


def test_the_same_files_in_any_order_are_untouched():
    assert JUDGED.touched(reversed(FILES)) is None


@pytest.mark.parametrize(
    "change", [{"path": "d"}, {"size": 101}, {"rows": 6}, {"written_at": 8}, {"partition": "exchange_date=2026-03-02"}]
)
def test_a_file_that_is_otherwise_touches_its_hour(change: dict):
    touched = JUDGED.touched([FILES[0], FILES[1], replace(FILES[2], **change)])
    assert touched == (AT + MICROS if "partition" not in change else AT - 10 * MICROS)


def test_a_lost_and_a_rewritten_file_touch_their_hour_and_a_new_one_the_time_of_its_rows():
    assert JUDGED.touched(FILES[1:]) == AT
    assert JUDGED.touched([FILES[0], _file("b", sequence=3, first=AT + 5), FILES[2]]) == AT
    assert JUDGED.touched([*FILES, _file("d", 12, 3, AT + 2 * MICROS + 5)]) == AT + 2 * MICROS + 5
    assert JUDGED.touched([*FILES, _file("d", 12, 3)]) == AT + 2 * MICROS  # its metadata have no bounds


def test_what_retention_removed_touches_nothing():
    assert JUDGED.touched(FILES[2:], AT + MICROS) is None
    assert JUDGED.touched(FILES[2:], AT + MICROS - 1) == AT
    everything = FileSet.of([replace(FILES[0], partition="")], 2, DAY)
    assert everything.touched([], AT + MICROS) == 0


def test_an_anchor_reads_what_it_wrote_and_nothing_else():
    anchor = Anchor({"gold": JUDGED}, {"BINANCE/trades": AT})
    assert Anchor.parse(anchor.text()) == anchor
    other = anchor.text().replace('"version":1', '"version":2')
    assert [Anchor.parse(text) for text in (None, "", "{}", "[]", "x", other)] == [None] * 6


def test_a_channel_is_judged_from_the_first_hour_that_was_open_or_touched():
    anchor = Anchor({"gold": JUDGED, "silver": JUDGED}, {"BINANCE/trades": AT})
    assert anchor.floor("BINANCE/trades", {"gold": None, "silver": None}, ["gold", "silver"]) == AT
    assert anchor.floor("BINANCE/trades", {"gold": AT - 9, "silver": AT + 9}, ["gold", "silver"]) == AT - 9
    assert anchor.floor("BINANCE/trades", {"gold": AT - 9}, ["silver"]) == AT
    assert anchor.floor("BINANCE/trades", {}, ["gold", "bronze"]) == 0  # a table that no audit has judged
    assert anchor.floor("OKX/trades", {}, ["gold"]) == 0
