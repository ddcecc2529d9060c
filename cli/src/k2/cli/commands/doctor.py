"""Check and install what K2 needs on this machine: Java, Java archives, memory, disk; and the `k2 doctor` command."""

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
from k2.common.validation_errors import InvalidSpec
from k2.jobs.spark.jvm import jars
from k2.jobs.spark.jvm.java import Java, JavaNotFound, find_java

Data = Annotated[Path, typer.Option("--data", help="folder of the platform", file_okay=False)]

_MIN_MEMORY: Final = 3 << 30
_MIN_DISK: Final = 2 << 30


def java_and_jars() -> Java:
    """Return the Java to use, after downloading missing archives. Exits with 2 or 3 and a remedy on failure."""
    try:
        java = find_java()
    except JavaNotFound as error:
        refuse(str(error))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    # Without a terminal, even an invisible progress bar would print an empty line.
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("downloading archives", total=None, visible=False)

        def progress(done: int, total: int, name: str) -> None:
            bar.update(task, visible=True, completed=done, total=total, description=f"downloading {name}"[:60])

        try:
            jars.ensure(java, progress)
        except (jars.JarsUnavailable, jars.ChecksumMismatch) as error:
            refuse(str(error), code=UNREACHABLE)
    return java


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check."""

    name: str
    ok: bool
    detail: str


def checks(data: Path) -> Iterator[Check]:
    """Check this machine for what K2 needs."""
    yield Check("python", sys.version_info >= (3, 11), platform.python_version())
    try:
        java = find_java()
        yield Check("java", ok=True, detail=f"{java.version} ({java.origin}: {java.path})")
    except JavaNotFound as error:
        yield Check("java", ok=False, detail=str(error))
    missing = jars.missing(*jars.EMBEDDED)
    yield Check("archives", ok=True, detail=f"{len(missing)} to download at the first start" if missing else "complete")
    yield from _class_checks()
    memory = psutil.virtual_memory().available
    yield Check("memory", memory >= _MIN_MEMORY, f"{memory / 2**30:.1f} GB available, {_MIN_MEMORY >> 30} GB required")
    root = Layout.at(data).root
    where = next(path for path in (root, *root.parents) if path.exists())
    room = free(Layout(where))
    yield Check("disk", room >= _MIN_DISK, f"{room / 2**30:.1f} GB free in {where}, {_MIN_DISK >> 30} GB required")
    yield Check("cores", ok=(os.cpu_count() or 1) >= 2, detail=f"{os.cpu_count()}")
    yield from _cage_checks()
    yield from _clock_checks(Layout.at(data))


def _cage_checks() -> Iterator[Check]:
    """Start the process of a statement, and ask it what keeps it from writing."""
    from contextlib import closing

    from k2.query.errors import BadQuery, Unavailable
    from k2.query.sql.cage.limits import Limits
    from k2.query.sql.cage.pool import Cage

    with closing(Cage(Limits(), warm=0)) as cage:
        try:
            yield Check("sql", ok=True, detail=f"statements are confined by: {cage.protection()}")
        except (BadQuery, Unavailable) as error:
            yield Check("sql", ok=False, detail=str(error))


def _class_checks() -> Iterator[Check]:
    from k2.cli.embedded import class_archives

    try:
        missing = class_archives.missing(find_java())
    except JavaNotFound:
        return  # the check of Java says so
    how = "python -m k2.cli.embedded.class_archives makes Java start with less CPU time"
    yield Check("classes", ok=True, detail=f"not archived; {how}" if missing else "archived")


def _clock_checks(layout: Layout) -> Iterator[Check]:
    """Compare the clock with those of the exchanges of the last `k2 up`, or of all before that.

    An exchange that does not answer says nothing about the clock.
    """
    from k2.cli.embedded import clocks

    try:
        results = clocks.compare(clocks.endpoints(layout))
    except InvalidSpec as error:  # a proxy or certificates that cannot be used
        yield Check("clock", ok=False, detail=str(error))
        return
    if not results.offsets:
        yield Check("clock", ok=True, detail=f"not compared: {results.failure}")
    for name, offset in results.offsets.items():
        detail = f"{offset.seconds:+.3f} s from {name}'s, give or take {offset.error:.3f} s"
        yield Check("clock", ok=not offset.wrong, detail=detail)


def doctor(data: Data = DEFAULT) -> None:
    """Check this machine. Exit 1 if something is missing."""
    results = list(checks(data))
    for check in results:
        sys.stdout.write(f"{'ok' if check.ok else 'NOT OK':<7} {check.name:<9} {check.detail}\n")
    if not all(check.ok for check in results):
        raise typer.Exit(FAILED)


if __name__ == "__main__":
    typer.run(java_and_jars)
