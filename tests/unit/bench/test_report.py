"""The benchmark page: a run replaces its own sections and keeps the others."""

from pathlib import Path

from bench.harness import report
from bench.harness.figures import Grid, Section


def section(name: str, title: str) -> Section:
    return Section(name, title, grids=[Grid("ms", ["", "1 client"], [["K2", "1 / 2"]])])


def test_separate_sections_are_kept_by_other_runs_and_replaced_by_their_own(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    report.write(page, [section("ingest", "Ingest")], quick=False)
    report.write_separate(page, section("operator", "Operator"))
    report.write_separate(page, section("http_api", "Queries"))
    report.write_separate(page, section("lake-age", "Age"))
    report.write_separate(page, section("operator", "Operator, again"))
    report.write(page, [section("ingest", "Ingest, again")], quick=False)
    headings = [line for line in page.read_text().splitlines() if line.startswith("## ")]
    assert headings == ["## Goals", "## Ingest, again", "## The machine", "## Operator, again", "## Queries", "## Age"]
    assert page.read_text().count("| K2 | 1 / 2 |") == 4


def test_a_grid_is_printed_in_columns() -> None:
    lines = list(report.table(section("http_api", "Queries")))
    assert [line.strip() for line in lines[-2:]] == ["1 client", "K2  1 / 2"]
