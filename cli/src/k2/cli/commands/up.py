"""`k2 up`, `status`, `down` and `logs`: one platform in one folder on this machine."""

import asyncio
import io
import re
import signal
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Final, TextIO

import typer
from rich.console import Console, RenderableType
from rich.table import Table

from k2.cli.embedded import plan, state, status
from k2.cli.embedded.layout import DEFAULT, Layout
from k2.cli.embedded.plan import Options
from k2.cli.embedded.ports import PortInUse
from k2.cli.embedded.status import FeedStatus
from k2.cli.exits import BAD_INPUT, UNREACHABLE, outlive_pipes, refuse, say
from k2.common.validation_errors import InvalidSpec
from k2.common.yaml_loader import MAX_BYTES
from k2.schemas.feed.model import ExchangeFeed, conflicts
from k2.schemas.values import seconds

Data = Annotated[Path, typer.Option("--data", help="the platform's folder", file_okay=False)]
Port = Annotated[int, typer.Option(help="0: any free port", min=0, max=65535)]

_SHOW_EVERY: Final = 10.0
_DOWN_WITHIN: Final = 660.0
_TAIL: Final = 40
_WIDE: Final = 200
_PICTURE_WIDTH: Final = 150
_SIZE: Final = re.compile(r"[1-9][0-9]{0,8}[mg]")


def read(path: Path) -> ExchangeFeed:
    """The feed in a file. Exits with 2 and every problem if it is none."""
    try:
        with nullcontext(sys.stdin.buffer) if str(path) == "-" else path.open("rb") as file:
            return ExchangeFeed.from_yaml(file.read(MAX_BYTES + 1))  # a device may have no end
    except OSError as error:
        refuse(f"{path}: {error.strerror}")
    except InvalidSpec as error:
        refuse(*(f"{path}: {problem}" for problem in error.problems))


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    for command in (up, show, down, logs):
        app.command("status" if command is show else command.__name__)(command)


def up(
    files: Annotated[list[Path], typer.Option("-f", "--file", help="an ExchangeFeed; may be given several times")],
    data: Data = DEFAULT,
    simulate: Annotated[bool, typer.Option("--simulate", help="trade with a built-in simulated exchange")] = False,
    limit: Annotated[str, typer.Option("--duration", help="stop after this long, such as 90s")] = "",
    seed: Annotated[str, typer.Option(help="of the simulated market")] = "1",
    rate: Annotated[float, typer.Option(help="trades a second of each simulated exchange", min=0.1)] = 30.0,
    fault: Annotated[list[str], typer.Option(help="KIND[=ARG][@TIME]; see k2 simulate")] = [],  # noqa: B006
    memory: Annotated[str, typer.Option(help="of Spark's heap", metavar="SIZE")] = "1g",
    kafka_port: Port = 0,
    registry_port: Port = 0,
    api_port: Port = 0,
    attempts: Annotated[int, typer.Option(help="connects in a row that may fail; 0: no limit", min=0)] = 10,
) -> None:
    """Run feeds on this machine: broker, schema registry, ingest, Spark. Ctrl-C stops it so that nothing is lost."""
    feeds = [read(path) for path in files]
    if problems := conflicts(feeds):
        refuse(*(str(problem) for problem in problems))
    _check_words(fault, memory)
    wanted = {plan.KAFKA: kafka_port, plan.REGISTRY: registry_port, plan.API: api_port}
    options = Options(simulate, seed, rate, tuple(fault), wanted, memory, attempts)
    try:
        run_for = seconds(limit) if limit else 0.0
    except ValueError as error:
        refuse(f"--duration: {error}")
    outlive_pipes()
    raise typer.Exit(asyncio.run(_up(Layout.at(data), feeds, options, run_for)))


def _check_words(faults: Sequence[str], memory: str) -> None:
    from k2.ingest.simulator.faults import UnknownFault, parse

    if not _SIZE.fullmatch(memory):
        refuse(f"--memory: {memory!r} is not a size; write a whole number and m or g, such as 1g")
    try:
        for fault in faults:
            parse(fault)
    except UnknownFault as error:
        refuse(f"--fault: {error}")


async def _up(layout: Layout, feeds: Sequence[ExchangeFeed], options: Options, limit: float) -> int:
    from k2.cli.commands.doctor import java_and_jars
    from k2.cli.embedded.integrity import Unusable
    from k2.cli.embedded.supervisor import Stopped, Supervisor

    supervisor = Supervisor(layout, feeds, options, java_and_jars(), say)
    stop = asyncio.Event()
    try:
        await supervisor.start()
    except (Unusable, state.UnreadableState, PortInUse) as error:
        refuse(str(error))
    except Stopped as error:
        say(str(error))
        return error.code
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    ports = supervisor.state.ports
    say(
        f"running in {layout.root}: kafka 127.0.0.1:{ports[plan.KAFKA]}, "
        f"registry http://127.0.0.1:{ports[plan.REGISTRY]}, api and console http://127.0.0.1:{ports[plan.API]}/console/"
    )
    showing = asyncio.create_task(_show(layout, supervisor.state))
    code, why = 0, ""
    try:
        await supervisor.watch(stop, limit)
    except Stopped as error:
        code, why = error.code, str(error)
    showing.cancel()
    say("stopping: sockets close, buffers flush")
    code = max(code, await supervisor.stop())
    say(why or "stopped")
    return code


async def _show(layout: Layout, found: state.State) -> None:
    """The table, now and then."""
    feeds = status.feeds(layout, found)
    while True:
        await asyncio.sleep(_SHOW_EVERY)
        rows = await asyncio.to_thread(status.collect, feeds, found)
        drawn = console(sys.stderr)
        with drawn.capture() as text:  # rich itself would end the process when its pipe is closed
            drawn.print(table(rows))
        say(text.get().rstrip())


def show(
    data: Data = DEFAULT,
    wide: Annotated[bool, typer.Option("--wide", help="more columns")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="everything, as JSON")] = False,
) -> None:
    """Show the feeds: phase, rate, freshness, gaps."""
    layout = Layout.at(data)
    found = _found(layout)
    try:
        rows = status.collect(status.feeds(layout, found), found)
    except (OSError, InvalidSpec) as error:
        refuse(f"{layout.feeds}: {error}; run k2 up again")
    if as_json:
        import msgspec

        sys.stdout.write(msgspec.json.encode({"running": found.running, "ports": found.ports, "feeds": rows}).decode())
        sys.stdout.write("\n")
    else:
        console(sys.stdout).print(table(rows, wide=wide))


def down(data: Data = DEFAULT) -> None:
    """Stop the platform of a folder, in order, and wait for it."""
    from k2.cli.embedded.supervisor import reap

    layout = Layout.at(data)
    found = _found(layout)
    process = found.supervisor.find() if found.supervisor else None
    if process is None:
        asyncio.run(reap(found, say))
        say("nothing runs")
        return
    process.terminate()
    deadline = time.monotonic() + _DOWN_WITHIN
    while found.running and time.monotonic() < deadline:
        time.sleep(0.2)
    if found.running:
        refuse(f"it still stops after {_DOWN_WITHIN:.0f} s; see {layout.log(plan.JOBS)}", code=1)
    say("stopped")


def logs(
    part: Annotated[str, typer.Argument(help="broker, jobs, api, ingest-FEED-SHARD-REPLICA, ...; none: a list")] = "",
    data: Data = DEFAULT,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1)] = _TAIL,
    follow: Annotated[bool, typer.Option("--follow", "-f")] = False,
) -> None:
    """Show what a part wrote."""
    layout = Layout.at(data)
    known = sorted(path.stem for path in layout.logs.glob("*.log"))
    if not known:
        refuse(f"there are no logs in {layout.root}; start with k2 up, or choose another --data", code=UNREACHABLE)
    if not part:
        sys.stdout.write("\n".join(known) + "\n")
        return
    if part not in known:
        refuse(f"there is no part {part!r}; known are {', '.join(known)}")
    try:
        file = layout.log(part).open(encoding="utf-8", errors="replace")
    except OSError as error:
        refuse(f"{layout.log(part)}: {error.strerror}")
    with file:
        sys.stdout.writelines(deque(file, lines))
        while follow:
            sys.stdout.write(file.readline())
            sys.stdout.flush()
            time.sleep(0.05)


def table(rows: Sequence[FeedStatus], *, wide: bool = False) -> Table:
    """The columns of `kubectl get feeds`."""
    found = Table(box=None, pad_edge=False, header_style="bold")
    names = ["NAME", "EXCHANGE", "SYMBOLS", "PHASE", "RATE", "FRESHNESS", "GAPS", "AGE"]
    for name in [*names, *(["TOPOLOGY", "DEAD LETTERS", "MESSAGE"] if wide else [])]:
        found.add_column(name, no_wrap=name != "MESSAGE")
    for row in rows:
        fresh = "" if row.freshness is None else f"{row.freshness:.1f}s"
        gaps = f"{row.open_gaps} open, {row.repaired_gaps} repaired"
        cells = [row.name, row.exchange, str(row.symbols), row.phase, f"{row.rate:.1f}/s", fresh, gaps, _age(row.age)]
        found.add_row(*cells, *([row.topology, str(row.dead_letters), row.message] if wide else []))
    return found


def picture(path: Path, content: RenderableType, title: str) -> None:
    """Writes a screen as an SVG."""
    drawn = Console(file=io.StringIO(), record=True, width=_PICTURE_WIDTH, force_terminal=True)
    drawn.print(content)
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn.save_svg(str(path), title=title)


def console(file: TextIO) -> Console:
    """A console that folds nothing where nobody watches."""
    return Console(file=file, width=None if file.isatty() else _WIDE)


def _found(layout: Layout) -> state.State:
    if not layout.state.exists():
        refuse(
            f"there is no platform in {layout.root}; start one with k2 up, or choose another --data", code=UNREACHABLE
        )
    try:
        return state.load(layout.state)
    except state.UnreadableState as error:
        refuse(str(error), code=BAD_INPUT)


def _age(seconds_: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds_ >= 2 * size:
            return f"{seconds_ // size:.0f}{unit}"
    return f"{seconds_:.0f}s"
