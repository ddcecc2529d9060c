"""`python -m bench [a b c d e f g] [--rounds N] [--quick] [--output FILE]`: measures, prints; a whole run writes docs.

A whole run is a to e; f, which needs an API server, and g are measured and written into docs each alone.

Exit 0 if every part could be measured, whether or not its goals were reached; 1 if one could not.
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

PARTS: Final = {
    "a": ("ingest", "Socket to Kafka, one core"),
    "b": ("layers", "Kafka to Gold"),
    "c": ("freshness", "Socket to Gold, with triggers of one second"),
    "d": ("queries", "One hour of one symbol"),
    "e": ("footprint", "The whole platform at rest and at work"),
}
APART: Final = {"f": ("feeds", "Many feeds on one operator"), "g": ("asking", "Asking over HTTP")}


def main() -> int:
    """Runs the parts that were asked for; each failure is told and the others go on."""
    words = _arguments()
    signal.signal(signal.SIGTERM, _ended)
    sections = []
    with tempfile.TemporaryDirectory(prefix="k2-bench-") as scratch:
        for letter in words.parts or PARTS:
            section = _measure(letter, Path(scratch) / letter, words)
            sections.append(section)
            print("\n".join(report.table(section)), flush=True)
    page = ROOT / "docs" / "benchmarks.md"
    alone = len(words.parts) == 1 and words.parts[0] in APART
    if alone and not (words.quick or words.output or sections[0].failed):
        report.write_apart(page, sections[0])
        print(f"written to {page}")
    output = words.output or (None if words.parts or words.quick else page)
    if output is not None:
        report.write(output, sections, quick=words.quick)
        print(f"written to {output}")
        if not (words.output or words.parts or words.quick):
            report.write_readme(ROOT / "README.md", sections)
    return 1 if any(section.failed for section in sections) else 0


def _measure(letter: str, folder: Path, words: argparse.Namespace) -> Section:
    module, title = (PARTS | APART)[letter]
    print(f"{letter}  {title} ...", flush=True)
    began = time.monotonic()
    try:
        section: Section = importlib.import_module(f"bench.{module}").run(
            folder, quick=words.quick, rounds=words.rounds
        )
    except Exception as error:  # noqa: BLE001 - one part that cannot be measured must not hide the others
        section = Section(letter, title, failed=f"{type(error).__name__}: {error}")
    section.took = time.monotonic() - began
    return section


def _ended(number: int, _: Any) -> None:
    """SIGTERM ends the processes of a measurement as ctrl-c does."""
    raise SystemExit(128 + number)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description="Measures K2 beside its rivals.")
    known = PARTS | APART
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=", ".join(f"{key}: {what}" for key, (_, what) in known.items())
    )
    parser.add_argument("--rounds", type=int, default=3, help="of the parts that compare contestants")
    parser.add_argument("--quick", action="store_true", help="small sizes: to see that it works")
    parser.add_argument("--output", type=Path, help="of the page; only a whole run writes docs/benchmarks.md")
    words = parser.parse_args()
    if unknown := set(words.parts) - set(known):
        parser.error(f"there is no part {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    return words


if __name__ == "__main__":
    sys.exit(main())
