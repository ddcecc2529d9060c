"""The page of benchmarks: what one command measured stays when another writes its own."""

from pathlib import Path

from bench.harness import report
from bench.harness.figures import Grid, Section


def section(letter: str, title: str) -> Section:
    return Section(letter, title, grids=[Grid("ms", ["", "1 client"], [["K2", "1 / 2"]])])


def test_sections_that_are_measured_apart_stay_and_are_replaced(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    report.write(page, [section("a", "Ingest")], quick=False)
    report.write_apart(page, section("f", "Operator"))
    report.write_apart(page, section("g", "Asking"))
    report.write_apart(page, section("f", "Operator, again"))
    report.write(page, [section("a", "Ingest, again")], quick=False)
    found = [line for line in page.read_text().splitlines() if line.startswith("## ")]
    assert found == ["## Goals", "## a. Ingest, again", "## The machine", "## f. Operator, again", "## g. Asking"]
    assert page.read_text().count("| K2 | 1 / 2 |") == 3


def test_a_grid_is_shown_in_columns() -> None:
    lines = list(report.table(section("g", "Asking")))
    assert [line.strip() for line in lines[-2:]] == ["1 client", "K2  1 / 2"]
