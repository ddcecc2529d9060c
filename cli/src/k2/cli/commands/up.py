"""`k2 up`: runs one platform in one folder on this machine."""

import asyncio
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from k2.cli.commands.options import Data
from k2.cli.embedded import plan, state, status
from k2.cli.embedded.layout import DEFAULT, Layout
from k2.cli.embedded.plan import Options
from k2.cli.embedded.ports import PortInUse
from k2.cli.exits import ignore_sigpipe, refuse, say
from k2.cli.feed_files import read_feed
from k2.cli.terminal import console, status_table
from k2.schemas.feed.model import ExchangeFeed, conflicts
from k2.schemas.values import seconds

Port = Annotated[int, typer.Option(help="0: any free port", min=0, max=65535)]

_STATUS_INTERVAL: Final = 10.0
_SIZE: Final = re.compile(r"[1-9][0-9]{0,8}[mg]")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(up)


def up(
    files: Annotated[list[Path], typer.Option("-f", "--file", help="an ExchangeFeed; repeatable")],
    data: Data = DEFAULT,
    simulate: Annotated[bool, typer.Option("--simulate", help="use built-in simulated exchanges")] = False,
    duration: Annotated[str, typer.Option("--duration", help="stop after this time, such as 90s")] = "",
    seed: Annotated[str, typer.Option(help="seed of the simulated market")] = "1",
    rate: Annotated[float, typer.Option(help="trades per second of each simulated exchange", min=0.1)] = 30.0,
    fault: Annotated[
        list[str], typer.Option(help="fault to inject: KIND[=ARG[,TARGET]][@TIME]; see k2 simulate --help")
    ] = [],  # noqa: B006
    memory: Annotated[str, typer.Option(help="heap size of Spark", metavar="SIZE")] = "1g",
    kafka_port: Port = 0,
    registry_port: Port = 0,
    api_port: Port = 0,
    attempts: Annotated[
        int, typer.Option(help="give up after this many failed connects in a row; 0: never", min=0)
    ] = 10,
    audit: Annotated[bool, typer.Option(help="audit the tables hourly, and at the end")] = True,
) -> None:
    """Run feeds on this machine: Kafka, schema registry, ingest, Spark, API. Ctrl-C stops it without data loss."""
    feeds = [read_feed(path) for path in files]
    if problems := conflicts(feeds):
        refuse(*(str(problem) for problem in problems))
    _check_options(fault, memory)
    ports = {plan.KAFKA: kafka_port, plan.REGISTRY: registry_port, plan.API: api_port}
    options = Options(simulate, seed, rate, tuple(fault), ports, memory, attempts, audit)
    try:
        limit = seconds(duration) if duration else 0.0
    except ValueError as error:
        refuse(f"--duration: {error}")
    ignore_sigpipe()
    raise typer.Exit(asyncio.run(_up(Layout.at(data), feeds, options, limit)))


def _check_options(faults: Sequence[str], memory: str) -> None:
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
        f"running in {layout.root}: Kafka 127.0.0.1:{ports[plan.KAFKA]}, "
        f"registry http://127.0.0.1:{ports[plan.REGISTRY]}, API and console http://127.0.0.1:{ports[plan.API]}/console/"
    )
    reporting = asyncio.create_task(_report_status(layout, supervisor.state))
    code, reason = 0, ""
    try:
        await supervisor.watch(stop, limit)
    except Stopped as error:
        code, reason = error.code, str(error)
    reporting.cancel()
    say("stopping: closing sockets, flushing buffers")
    code = max(code, await supervisor.stop())
    say(reason or "stopped")
    return code


async def _report_status(layout: Layout, platform: state.State) -> None:
    """Print the status table periodically."""
    feeds = status.feeds(layout, platform)
    while True:
        await asyncio.sleep(_STATUS_INTERVAL)
        rows = await asyncio.to_thread(status.collect, feeds, platform)
        out = console(sys.stderr)
        with out.capture() as text:  # printing directly, rich would end the process when the pipe is closed
            out.print(status_table(rows))
        say(text.get().rstrip())
