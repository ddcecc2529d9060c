"""`python -m k2.cli.demo`: runs three feeds for 80 seconds, injects faults, and audits the result.

Exit codes: 0 the audit passed, 1 it failed, 2 bad input, 3 a required service is unreachable.
"""

import argparse
import asyncio
import shutil
import sys
from pathlib import Path
from typing import Final

import typer

from k2.cli.commands.doctor import java_and_jars
from k2.cli.demo import report
from k2.cli.demo.screen import Screen
from k2.cli.demo.script import Demo
from k2.cli.embedded.integrity import Unusable
from k2.cli.embedded.layout import Layout
from k2.cli.embedded.plan import Options
from k2.cli.embedded.ports import PortInUse
from k2.cli.embedded.supervisor import Stopped, Supervisor
from k2.cli.feed_files import read_feed
from k2.common.arguments import Parser
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.values import seconds

_SAMPLES: Final = Path("manifests/samples")
_FEEDS: Final = tuple(EXCHANGES)[:3]
# The demo is too short for the default reconnect delays.
_FAST_RECONNECT: Final = ("--backoff-first", "1", "--backoff-limit", "5")


def main() -> int:
    """Run the demo, and show its result in the console. Returns the exit code."""
    arguments = _arguments()
    code = _run_demo(arguments)
    if code in {0, 1}:
        report.serve_console(Layout.at(arguments.data), serve=arguments.serve)
    return code


def _arguments() -> argparse.Namespace:
    parser = Parser(prog="k2.cli.demo", description="Run three feeds, inject faults, audit the result.")
    parser.add_argument("--live", action="store_true", help="use the real exchanges; needs internet access")
    parser.add_argument(
        "--data", type=Path, default=Path(".demo"), help="folder of the platform; emptied first, kept afterwards"
    )
    parser.add_argument("--duration", dest="duration", default="80s", help="how long to run, such as 80s")
    parser.add_argument("--rate", type=float, default=60.0, help="trades per second of each simulated exchange")
    parser.add_argument("--picture", type=Path, metavar="FILE.svg", help="write the last screen to an SVG file")
    parser.add_argument(
        "--serve", action=argparse.BooleanOptionalAction, default=sys.stdout.isatty(),
        help="serve the console until Ctrl-C afterwards; default: only on a terminal",
    )  # fmt: skip
    return parser.parse_args()


def _run_demo(arguments: argparse.Namespace) -> int:
    try:
        return asyncio.run(_run(arguments))
    except typer.Exit as error:
        return error.exit_code
    except (ValueError, PortInUse, Unusable) as error:
        print(error, file=sys.stderr)
        return 2
    except Stopped as error:
        print(error, file=sys.stderr)
        return error.code


async def _run(arguments: argparse.Namespace) -> int:
    layout, duration = Layout.at(arguments.data), seconds(arguments.duration)
    _remove_previous(layout)
    feeds = [read_feed(_SAMPLES / f"{name}.yaml") for name in _FEEDS]
    # It audits by itself, with the platform stopped.
    options = Options(simulate=not arguments.live, rate=arguments.rate, ingest=_FAST_RECONNECT, audit=False)
    screen = Screen()
    supervisor = Supervisor(layout, feeds, options, java_and_jars(), screen.log)
    demo = Demo(supervisor, layout, screen, duration, live=arguments.live)
    emitted = await demo.run()
    if arguments.picture:
        screen.save_svg(arguments.picture)
    return report.conclude(layout, demo.last, emitted)


def _remove_previous(layout: Layout) -> None:
    """Remove the folder of an earlier demo, and no other folder."""
    if not layout.root.exists() or not any(layout.root.iterdir()):
        return
    if not layout.state.exists() and not layout.lock.exists():
        raise ValueError(f"{layout.root} is not the folder of a demo; choose another --data")
    shutil.rmtree(layout.root)


if __name__ == "__main__":
    sys.exit(main())
