"""Bytes of a record in Gold, before and after compaction: measured in a process of their own, and judged."""

import json
from pathlib import Path
from typing import Any

from bench.harness.figures import K2, Figure, Goal, Section
from bench.harness.processes import output
from k2.cli.embedded import plan
from k2.cli.embedded.layout import Layout
from k2.cli.embedded.ports import free


def measure(folder: Path, channel: str) -> dict[str, Any]:
    """Return what `bench.workloads.gold_size` prints for a channel, in a lake of its own."""
    layout = Layout.at(folder)
    layout.root.mkdir(parents=True, exist_ok=True)
    platform = layout.platform(kafka_port=free(), registry_port=free())
    words = ("-m", "bench.workloads.gold_size", str(layout.root), channel)
    sizes: dict[str, Any] = json.loads(output("sizes", *words, env=plan.environment(platform)).splitlines()[-1])
    return sizes


def add(section: Section, unit: str, sizes: dict[str, Any], *, before: float | None = None, after: float) -> None:
    """Print the bytes a unit by column, and add totals and goals to the section. `unit` is what is counted: a trade."""
    count = sizes["units"]
    print(f"  bytes a {unit} in Gold, before and after compaction ({count:,} recorded)", flush=True)
    for name in sorted(sizes["after"], key=lambda name: -sizes["after"][name]):
        print(f"  {name:28}{sizes['before'][name] / count:8.3f}{sizes['after'][name] / count:8.3f}", flush=True)
    for when, limit in (("before", before), ("after", after)):
        of_columns = sizes[when]
        total = sum(of_columns.values()) / count
        largest = sorted(of_columns, key=lambda name: -of_columns[name])[:5]
        parts = ", ".join(f"{name} {of_columns[name] / count:.2f}" for name in largest)
        section.figures.append(Figure(K2, f"bytes a {unit} in Gold, {when} compaction", "bytes", [total]))
        if limit is not None:
            target = f"at most {limit:g} bytes a {unit} in Gold {when} compaction, all columns and footers counted"
            section.goals.append(Goal(target, f"{total:.2f} bytes", total <= limit, f"the largest columns are {parts}"))
