"""What this machine must have before anything runs: Java, the archives, room. And `k2 doctor`, which tells."""

import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import psutil
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from k2.cli.embedded.integrity import free
from k2.cli.embedded.layout import DEFAULT, Layout
from k2.cli.exits import FAILED, UNREACHABLE, refuse
from k2.jobs.spark.jvm import jars
from k2.jobs.spark.jvm.java import Java, JavaNotFound, find_java

Data = Annotated[Path, typer.Option("--data", help="the platform's folder", file_okay=False)]

_MEMORY: Final = 3 << 30
_DISK: Final = 2 << 30


def java_and_jars() -> Java:
    """The Java to use, with every archive in the cache. Exits with 2 or 3 and the remedy if one is not to be had."""
    try:
        java = find_java()
    except JavaNotFound as error:
        refuse(str(error))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    # Where nobody watches, even a bar that is never shown would leave an empty line.
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("fetching archives", total=None, visible=False)

        def progress(done: int, total: int, name: str) -> None:
            bar.update(task, visible=True, completed=done, total=total, description=f"fetching {name}"[:60])

        try:
            jars.ensure(java, progress)
        except (jars.JarsUnavailable, jars.ChecksumMismatch) as error:
            refuse(str(error), code=UNREACHABLE)
    return java


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    good: bool
    found: str


def findings(data: Path) -> Iterator[Finding]:
    """What of this machine matters to K2."""
    yield Finding("python", sys.version_info >= (3, 11), platform.python_version())
    try:
        java = find_java()
        yield Finding("java", good=True, found=f"{java.version} ({java.origin}: {java.path})")
    except JavaNotFound as error:
        yield Finding("java", good=False, found=str(error))
    missing = jars.missing(*jars.EMBEDDED)
    yield Finding("archives", good=True, found=f"{len(missing)} to fetch at the first start" if missing else "complete")
    memory = psutil.virtual_memory().available
    yield Finding("memory", memory >= _MEMORY, f"{memory / 2**30:.1f} GB available, {_MEMORY >> 30} wanted")
    root = Layout.at(data)
    where = next(path for path in (root.root, *root.root.parents) if path.exists())
    room = free(Layout(where))
    yield Finding("disk", room >= _DISK, f"{room / 2**30:.1f} GB free in {where}, {_DISK >> 30} wanted")
    yield Finding("cores", good=(os.cpu_count() or 1) >= 2, found=f"{os.cpu_count()}")


def doctor(data: Data = DEFAULT) -> None:
    """Check this machine. Exit 1 if something is missing."""
    found = list(findings(data))
    for finding in found:
        sys.stdout.write(f"{'ok' if finding.good else 'NOT OK':<7} {finding.name:<9} {finding.found}\n")
    if not all(finding.good for finding in found):
        raise typer.Exit(FAILED)


if __name__ == "__main__":
    typer.run(java_and_jars)
