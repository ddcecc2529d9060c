"""`python -m bench [BENCHMARK ...] [--rounds N] [--quick] [--output FILE]`: run benchmarks and print the results.

Without names it runs ingest, layers, freshness, queries and footprint, and writes docs/benchmarks.md and the README.
`operator`, which needs an API server, `http_api` and `lake-age` take longer, and `books` needs recorded frames: each
writes its section only when it runs alone.

Exit 0 if every benchmark ran, whether or not its goals were reached; 1 if one failed.
"""

import argparse
import importlib
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from bench.harness import report
from bench.harness.figures import Section
from bench.harness.processes import ROOT

# Title of each benchmark, by the name of its module.
DEFAULT: Final = {
    "ingest": "Socket to Kafka, one core",
    "layers": "Kafka to Gold",
    "freshness": "Socket to Gold, with triggers of one second",
    "queries": "One hour of one symbol",
    "footprint": "Memory and CPU of the whole platform",
}
SEPARATE: Final = {
    "operator": "Many feeds on one operator",
    "http_api": "Queries over HTTP",
    "lake-age": "The lake as it ages",
    "books": "Quotes and order books",
}


def main() -> int:
    """Run the chosen benchmarks. A failure is reported, and the others still run."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, _terminate)
    sections = []
    with tempfile.TemporaryDirectory(prefix="k2-bench-") as scratch:
        for name in arguments.benchmarks or DEFAULT:
            section = _measure(name, Path(scratch) / name, arguments)
            sections.append(section)
            print("\n".join(report.table(section)), flush=True)
    page = ROOT / "docs" / "benchmarks.md"
    separate = len(arguments.benchmarks) == 1 and arguments.benchmarks[0] in SEPARATE
    if separate and not (arguments.quick or arguments.output or sections[0].failed):
        report.write_separate(page, sections[0])
        print(f"written to {page}")
    output = arguments.output or (None if arguments.benchmarks or arguments.quick else page)
    if output is not None:
        report.write(output, sections, quick=arguments.quick)
        print(f"written to {output}")
        if not (arguments.output or arguments.benchmarks or arguments.quick):
            report.write_readme(ROOT / "README.md", sections)
    return 1 if any(section.failed for section in sections) else 0


def _measure(name: str, folder: Path, arguments: argparse.Namespace) -> Section:
    title = (DEFAULT | SEPARATE)[name]
    print(f"{name}: {title} ...", flush=True)
    started_at = time.monotonic()
    try:
        section: Section = importlib.import_module(f"bench.{name.replace('-', '_')}").run(
            folder, quick=arguments.quick, rounds=arguments.rounds
        )
    except Exception as error:  # noqa: BLE001 - a benchmark that fails must not hide the others
        section = Section(name, title, failed=f"{type(error).__name__}: {error}")
    section.seconds = time.monotonic() - started_at
    return section


def _terminate(number: int, _: Any) -> None:
    """Exit on SIGTERM as on Ctrl-C, so that the measured processes are ended."""
    raise SystemExit(128 + number)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description="Measure K2 and its baselines.")
    titles = DEFAULT | SEPARATE
    parser.add_argument(
        "benchmarks",
        nargs="*",
        metavar="BENCHMARK",
        help="; ".join(f"{name}: {title}" for name, title in titles.items()),
    )
    parser.add_argument("--rounds", type=int, default=3, help="rounds of the benchmarks that compare engines")
    parser.add_argument("--quick", action="store_true", help="small sizes, to check that it works")
    parser.add_argument("--output", type=Path, help="page to write; the default run writes docs/benchmarks.md")
    arguments = parser.parse_args()
    if unknown := set(arguments.benchmarks) - set(titles):
        parser.error(f"unknown benchmark {', '.join(sorted(unknown))}; choose from {', '.join(titles)}")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
