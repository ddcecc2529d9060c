"""`python -m k2.cli.demo`: runs three feeds for a minute and a half, breaks two of them, and audits the result.

Exit codes: 0 the audit found everything balanced, 1 it did not, 2 bad input, 3 a needed service could not be reached.
"""

import argparse
import asyncio
import shutil
import sys
from pathlib import Path
from typing import Final

import typer

from k2.cli.commands import up
from k2.cli.commands.doctor import java_and_jars
from k2.cli.demo import report
from k2.cli.demo.screen import Screen
from k2.cli.demo.script import Demo
from k2.cli.embedded.integrity import Unusable
from k2.cli.embedded.layout import Layout
from k2.cli.embedded.plan import Options
from k2.cli.embedded.ports import PortInUse
from k2.cli.embedded.supervisor import Stopped, Supervisor
from k2.schemas.values import seconds

_SAMPLES: Final = Path("manifests/samples")
_FEEDS: Final = ("binance", "kraken", "coinbase")
# A demo has no minute to wait for a reconnect.
_IMPATIENT: Final = ("--backoff-first", "1", "--backoff-limit", "5")


def main() -> int:
    """Runs the demo, and shows what it left."""
    arguments = _arguments()
    code = _made(arguments)
    if code in {0, 1}:
        report.look_around(Layout.at(arguments.data), serve=arguments.serve)
    return code


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="k2.cli.demo", description="Three feeds, two accidents, one audit.")
    parser.add_argument("--live", action="store_true", help="use the exchanges themselves; needs the internet")
    parser.add_argument("--data", type=Path, default=Path(".demo"), help="emptied first, kept afterwards")
    parser.add_argument("--for", dest="duration", default="80s", help="how long trades are taken")
    parser.add_argument("--rate", type=float, default=60.0, help="trades a second of each simulated exchange")
    parser.add_argument("--picture", type=Path, metavar="FILE.svg", help="write the screen before the end to a file")
    parser.add_argument(
        "--serve", action=argparse.BooleanOptionalAction, default=sys.stdout.isatty(),
        help="show the result in the console until ctrl-c; without it, only if somebody watches",
    )  # fmt: skip
    return parser.parse_args()


def _made(arguments: argparse.Namespace) -> int:
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
    _empty(layout)
    feeds = [up.read(_SAMPLES / f"{name}.yaml") for name in _FEEDS]
    options = Options(simulate=not arguments.live, rate=arguments.rate, ingest=_IMPATIENT)
    screen = Screen()
    supervisor = Supervisor(layout, feeds, options, java_and_jars(), screen.tell)
    demo = Demo(supervisor, layout, screen, duration, live=arguments.live)
    emitted = await demo.run()
    if arguments.picture:
        screen.picture(arguments.picture)
    return report.conclude(layout, demo.last, emitted)


def _empty(layout: Layout) -> None:
    """Removes what an earlier demo left, and nothing else."""
    if not layout.root.exists() or not any(layout.root.iterdir()):
        return
    if not layout.state.exists() and not layout.lock.exists():
        raise ValueError(f"{layout.root} is not a demo's folder; choose another with --data")
    shutil.rmtree(layout.root)


if __name__ == "__main__":
    sys.exit(main())
