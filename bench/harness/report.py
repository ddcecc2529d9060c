"""Print the results as a table, and write them to the documentation."""

import os
import platform
import re
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

import psutil

from bench.harness.figures import Section, number

_BEGIN: Final = "<!-- figures: make bench writes them -->"
_END: Final = "<!-- end of figures -->"
_SEPARATE: Final = ("<!-- {0}: measured separately -->", "<!-- end of {0} -->")
_SEPARATE_SECTION: Final = re.compile(r"<!-- [\w-]+: measured separately -->.*?<!-- end of [\w-]+ -->", re.DOTALL)
_PACKAGES: Final = "confluent-kafka aiohttp fastavro msgspec pyspark pyiceberg pyarrow duckdb".split()


def machine() -> list[tuple[str, str]]:
    """Return the hardware and the versions of the software."""
    from k2.jobs.spark.jvm.jars import read_lock
    from k2.jobs.spark.jvm.java import find_java

    jars = {jar.artifact: jar.version for jar in read_lock()}
    shown = [
        name for name in jars if name in {"kafka_2.13", "kafka-server"} or name.startswith("iceberg-spark-runtime")
    ]
    return [
        ("processor", f"{_processor()}, {os.cpu_count()} cores"),
        ("memory", f"{psutil.virtual_memory().total / 1e9:.1f} GB"),
        ("system", f"{platform.system()} {platform.release()}"),
        ("Python", platform.python_version()),
        ("Java", str(find_java().version)),
        *((name, version(name)) for name in _PACKAGES),
        *((name, jars[name]) for name in shown),
    ]


def table(section: Section) -> Iterator[str]:
    """Yield a section as lines for a terminal."""
    yield f"{section.name}: {section.title} ({section.seconds:.0f} s)"
    if section.failed:
        yield f"   FAILED: {section.failed}"
    width = max((len(figure.quantity) for figure in section.figures), default=0)
    for figure in section.figures:
        yield f"   {figure.engine:<12} {figure.quantity:<{width}}  {figure.shown:>10} {figure.unit:<14} {figure.spread}"
    for grid in section.grids:
        widths = [max(map(len, cells)) for cells in zip(grid.columns, *grid.rows, strict=True)]
        yield f"   {grid.title}"
        for cells in (grid.columns, *grid.rows):
            yield "     " + "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
    for name, ratio in section.ratios:
        yield f"   {name}: {number(ratio)}"
    for goal in section.goals:
        yield f"   {'reached' if goal.reached else 'MISSED':<8} {goal.target}: {goal.measured}"
        if not goal.reached:
            yield f"            {goal.reason}"


def write(path: Path, sections: Sequence[Section], *, quick: bool) -> None:
    """Write the page, and keep the sections that were measured separately."""
    separate = _SEPARATE_SECTION.findall(path.read_text("utf-8")) if path.exists() else []
    path.write_text(
        "\n".join([*_page(sections, quick=quick), *(f"\n{section}" for section in separate)]) + "\n", "utf-8"
    )


def write_separate(path: Path, section: Section) -> None:
    """Replace the section of a benchmark that runs alone, or append it to the page."""
    begin, end = (mark.format(section.name) for mark in _SEPARATE)
    before, _, rest = path.read_text("utf-8").partition(begin)
    _, _, after = rest.partition(end)
    lines = [begin, "", *_section(section), *_goals_with_reasons([section]), "", _measured_on(), "", end]
    path.write_text(f"{before.rstrip()}\n\n" + "\n".join(lines) + f"\n{after}", "utf-8")


def write_readme(path: Path, sections: Sequence[Section]) -> None:
    """Write the goals and the measured values between the two marks of the README."""
    before, _, rest = path.read_text("utf-8").partition(_BEGIN)
    _, _, after = rest.partition(_END)
    lines = [_BEGIN, *_goal_table(sections), "", _measured_on(), _END]
    path.write_text(before + "\n".join(lines) + after, "utf-8")


def _measured_on() -> str:
    facts = dict(machine())
    return f"Measured on {facts['processor']}, {facts['memory']}, Python {facts['Python']}, Java {facts['Java']}."


def _page(sections: Sequence[Section], *, quick: bool) -> Iterator[str]:
    yield from (
        "# Benchmarks",
        "",
        "`make bench` measures K2 and its baselines on one machine in one run, and writes this page. Engines take "
        "turns, in",
        "an order that changes from round to round; a figure is the median of its rounds, with the lowest and the "
        "highest",
        "next to it. Absolute figures depend on the machine, ratios much less.",
        "",
    )
    if quick:
        yield from ('!!! warning "Quick run"', "", "    Measured with `--quick`: small sizes, rough figures.", "")
    yield from _goals(sections)
    for section in sections:
        yield from _section(section)
    yield from ("## The machine", "", "| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in machine()))


def _goals(sections: Sequence[Section]) -> Iterator[str]:
    yield from ("## Goals", "", *_goals_with_reasons(sections))


def _goals_with_reasons(sections: Sequence[Section]) -> Iterator[str]:
    yield from _goal_table(sections)
    missed = [(section, goal) for section in sections for goal in section.goals if not goal.reached]
    if missed:
        yield from ("", "Goals that were missed:", "")
        yield from (
            f"- **{goal.target}** ({section.name}): {goal.measured}. {_sentence(goal.reason)}".rstrip()
            for section, goal in missed
        )
    yield ""


def _goal_table(sections: Sequence[Section]) -> Iterator[str]:
    yield from ("| | goal | measured | reached |", "|---|---|---|---|")
    for section in sections:
        name = section.title
        if section.failed:
            yield f"| {name} | | not measured | no |"
        for goal in section.goals:
            yield f"| {name} | {goal.target} | {goal.measured} | {'yes' if goal.reached else '**no**'} |"
            name = ""


def _section(section: Section) -> Iterator[str]:
    yield from (f"## {section.title}", "")
    if section.failed:
        yield from (f"The benchmark failed: {section.failed}", "")
    for paragraph in section.method:
        yield from (paragraph, "")
    if section.figures:
        yield from ("| | | median | unit | rounds |", "|---|---|--:|---|---|")
        for figure in section.figures:
            yield f"| {figure.engine} | {figure.quantity} | {figure.shown} | {figure.unit} | {figure.spread} |"
        yield ""
    for grid in section.grids:
        yield from (f"**{grid.title}**", "", _row(grid.columns), _row(["---"] + ["--:"] * (len(grid.columns) - 1)))
        yield from (*map(_row, grid.rows), "")
    if section.ratios:
        yield from (
            "| ratio | |",
            "|---|--:|",
            *(f"| {name} | {number(ratio)} |" for name, ratio in section.ratios),
            "",
        )
    for note in section.notes:
        yield from (note, "")


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
