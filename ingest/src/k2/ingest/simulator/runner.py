"""The process of a simulated exchange, started by `k2 simulate` and `python -m k2.ingest.simulator`."""

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from k2.common import logs
from k2.common.arguments import Parser
from k2.ingest.arguments import number, port
from k2.ingest.exchanges import venue
from k2.ingest.simulator.capture import UnreadableCapture
from k2.ingest.simulator.faults import KINDS, UnknownFault, parse
from k2.ingest.simulator.listings import pair_of
from k2.ingest.simulator.server import Simulator
from k2.ingest.simulator.sources import CaptureSource, MarketSource, TradeSource
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.exchanges.spec import UnknownPair


def build(
    exchange: str,
    *,
    symbols: Sequence[str] = (),
    seed: str = "1",
    rate: float = 30.0,
    count: int = 0,
    captures: Sequence[Path] = (),
    speed: float = 1.0,
    faults: Sequence[str] = (),
    since: float = 0.0,
    wait_for_client: bool = False,
) -> Simulator:
    """Return a simulator, not yet started. Raises `UnknownPair`, `UnknownFault` or `UnreadableCapture`."""
    simulated = venue(exchange)
    pairs = [pair_of(simulated.spec, symbol) for symbol in symbols or simulated.default_symbols]
    source: TradeSource = (
        CaptureSource(exchange, captures, pairs, speed)
        if captures
        else MarketSource(pairs, seed=seed, rate=rate, count=count, wait_for_client=wait_for_client)
    )
    return Simulator(simulated(pairs), source, [parse(fault) for fault in faults], int(since * 1e6), seed)


async def serve(simulator: Simulator, host: str, port: int, exchange: str) -> None:
    """Run until SIGTERM or SIGINT. Raises OSError if the port is in use."""
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    opened = await simulator.start(host, port)
    print(f"{exchange} is simulated at ws://{host}:{opened} and http://{host}:{opened}", flush=True)
    await stop.wait()
    await simulator.stop()


def main(words: Sequence[str] | None = None) -> int:
    """Run the command. Return 0 when stopped, 2 for invalid input."""
    arguments = arguments_of(sys.argv[1:] if words is None else words)
    logs.configure("json", "info", exchange=arguments.exchange)
    try:
        simulator = build(
            arguments.exchange,
            symbols=arguments.symbols,
            seed=arguments.seed,
            rate=arguments.rate,
            count=arguments.count,
            captures=arguments.capture,
            speed=arguments.speed,
            faults=arguments.fault,
            since=arguments.since,
            wait_for_client=arguments.wait,
        )
        asyncio.run(serve(simulator, arguments.host, arguments.port, arguments.exchange))
    except (UnknownPair, UnknownFault, UnreadableCapture) as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        where = f"--host {arguments.host} --port {arguments.port}"
        print(f"{where}: {error.strerror}; choose another", file=sys.stderr)
        return 2
    return 0


def arguments_of(words: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    kinds = ", ".join(f"{kind}={default}".rstrip("=") for kind, (_, default, _) in KINDS.items())
    parser = Parser(prog="k2 simulate", description="Simulate an exchange on this machine.")
    parser.add_argument("exchange", choices=sorted(EXCHANGES))
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=port, default=0, help="0: any free port, printed")
    parser.add_argument(
        "--symbols", nargs="*", default=[], help="symbols as the exchange spells them, or SYMBOL:BASE:QUOTE"
    )
    parser.add_argument("--seed", default="1", help="the same seed gives the same trades")
    parser.add_argument("--rate", type=number(float, 0.1), default=30.0, help="trades per second, all symbols together")
    parser.add_argument("--count", type=number(int, 0), default=0, help="stop trading after this many trades; 0: never")
    parser.add_argument("--capture", type=Path, action="append", default=[], help="file of recorded frames to replay")
    parser.add_argument("--speed", type=number(float, 0), default=1.0, help="replay speed; 0: as fast as possible")
    parser.add_argument(
        "--since",
        type=number(float, 0),
        default=0.0,
        help="start of trading (seconds since 1970); earlier trades are history",
    )
    parser.add_argument("--wait", action="store_true", help="start trading with the first subscription")
    parser.add_argument("--fault", action="append", default=[], metavar="KIND[=ARG[,TARGET]][@TIME]", help=kinds)
    return parser.parse_args(words)
