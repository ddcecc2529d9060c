"""Bytes of a trade in Gold: every byte of the files counts, and the goals of the contract judge them."""

from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from bench.harness.figures import Section
from bench.harness.sizes import add
from bench.workloads.gold_size import FOOTER, column_bytes


def test_the_columns_and_the_rest_are_all_bytes_of_the_files(tmp_path: Path):
    files = [tmp_path / f"{number}.parquet" for number in range(2)]
    for file in files:
        parquet.write_table(pa.table({"a": list(range(5000)), "b": ["x"] * 5000}), file, row_group_size=1000)
    sizes = column_bytes(files)
    assert set(sizes) == {"a", "b", FOOTER}
    assert sum(sizes.values()) == sum(file.stat().st_size for file in files)
    assert sizes["a"] > sizes["b"] > 0
    assert sizes[FOOTER] > 0


@pytest.mark.parametrize(("before", "after", "reached"), [(12, 7.5, [True, True]), (12.1, 7.6, [False, False])])
def test_goals_are_judged_by_the_bytes_of_a_unit(
    before: float, after: float, reached: list[bool], capsys: pytest.CaptureFixture[str]
):
    section = Section("layers", "Kafka to Gold")
    sizes = {
        "records": 1,
        "units": 10,
        "before": {"price": before * 6, FOOTER: before * 4},
        "after": {"price": after * 10, FOOTER: 0},
    }
    add(section, "trade", sizes, before=12, after=7.5)
    assert [goal.reached for goal in section.goals] == reached
    assert [figure.median for figure in section.figures] == pytest.approx([before, after])
    assert "price" in capsys.readouterr().out
