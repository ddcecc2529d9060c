"""The demo's final report: row counts, freshness, query times, and the audit's verdict."""

import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from statistics import median, quantiles
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.table import Table

from k2.cli.commands import audit
from k2.cli.demo.script import Emitted
from k2.cli.embedded.layout import Layout
from k2.cli.embedded.status import FeedStatus
from k2.cli.terminal import console
from k2.query.engine import Engine
from k2.query.sql.freshness import freshness

_QUERIES: Final = 100


def conclude(layout: Layout, feeds: Sequence[FeedStatus], emitted: Emitted) -> int:
    """Print the report; return 0 if the audit passed and no emitted trade is missing."""
    out = console(sys.stdout)
    arguments, environment = audit.command(layout, "--json")
    done = subprocess.run(arguments, env=environment, stdout=subprocess.PIPE, check=False)
    if done.returncode not in {0, 1}:
        out.print("the audit could not run; see its output above")
        return done.returncode
    verdict: dict[str, Any] = msgspec.json.decode(done.stdout)
    out.print()
    out.print(_counts(verdict, feeds))
    _dead_letters(out, verdict)
    for feed in feeds:
        if feed.message:
            out.print(f"{feed.name}: {feed.message}", markup=False)
    engine = Engine(layout.platform())
    try:
        _print_latencies(out, engine, feeds)
        total, missing = _missing_trades(engine, emitted)
    finally:
        engine.close()
    if emitted:
        out.print(f"trades of the simulated exchanges since K2 connected: {total:,}; missing in Gold: {missing:,}")
    for finding in verdict["findings"]:
        out.print(f"finding: {finding['check']}: {finding['text']}", style="red", markup=False)
    passed = done.returncode == 0 and not missing
    out.print(f"audit: {verdict['verdict']}", style="bold green" if passed else "bold red")
    return 0 if passed else 1


def serve_console(layout: Layout, *, serve: bool) -> None:
    """Serve the console over the result until Ctrl-C, or print the command that does."""
    from k2.query.api.server import run, server
    from k2.query.api.settings import PORT, ApiSettings

    out = console(sys.stdout)
    if not serve:
        out.print(
            f"to explore the result: .venv/bin/k2 serve --data {_relative(layout)}, then open http://127.0.0.1:{PORT}/console/"
        )
        return
    http_server = server(ApiSettings.read(port=0), layout.platform())
    run(http_server, lambda url: out.print(f"console, until Ctrl-C: {url}/console/"))


def _counts(audit: dict[str, Any], feeds: Sequence[FeedStatus]) -> Table:
    table = Table(title="rows", title_justify="left", box=None, header_style="bold", pad_edge=False)
    names = (
        "exchange",
        "bronze",
        "silver",
        "dead letters",
        "gold",
        "duplicates",
        "gaps found",
        "repaired",
        "backfilled",
    )
    for name in names:
        table.add_column(name, justify="left" if name == "exchange" else "right")
    by_label = {feed.exchange.upper(): feed for feed in feeds}
    for label, exchange in audit["exchanges"].items():
        trades, feed = exchange["trades"], by_label[label]
        rows, gaps = trades["rows"], trades["gaps"]
        table.add_row(
            label,
            *(f"{rows[layer]:,}" for layer in ("bronze", "silver", "dead_letters", "gold")),
            str(feed.duplicates + rows["silver"] - rows["gold"]),
            str(sum(gaps.values())),
            str(gaps.get("repaired", 0)),
            str(feed.backfilled),
        )
    return table


def _dead_letters(out: Console, audit: dict[str, Any]) -> None:
    counts = {
        f"{label} {category}": count
        for label, exchange in audit["exchanges"].items()
        for category, count in exchange["trades"]["dead_letters"].items()
    }
    out.print("dead letters: " + (", ".join(f"{name} {count}" for name, count in counts.items()) or "none"))


def _print_latencies(out: Console, engine: Engine, feeds: Sequence[FeedStatus]) -> None:
    fresh = freshness(engine.catalog, datetime.now(UTC) - timedelta(hours=1))
    if fresh.rows:
        out.print(f"freshness, socket to Gold: p50 {fresh.p50:.2f} s, p99 {fresh.p99:.2f} s ({fresh.rows:,} trades)")
    symbol = next(iter(feeds[0].prices))
    times, rows = [], 0
    for _ in range(_QUERIES):
        began = time.perf_counter()
        rows = engine.trades(symbol=symbol, start=datetime.now(UTC) - timedelta(hours=1)).num_rows
        times.append((time.perf_counter() - began) * 1000)
    p99 = quantiles(times, n=100)[98]
    out.print(
        f"one hour of {symbol} ({rows:,} trades): p50 {median(times):.0f} ms, p99 {p99:.0f} ms ({_QUERIES} queries)"
    )


def _missing_trades(engine: Engine, emitted: Emitted) -> tuple[int, int]:
    """Return how many trades the exchanges emitted since the first one in Gold, and how many of them Gold lacks."""
    total = missing = 0
    for (label, symbol), ids in emitted.items():
        column = engine.trades(symbol=symbol, exchange=label).column("trade_id")
        actual = set(map(int, column.to_pylist()))
        expected = {number for number in map(int, ids) if number >= min(actual)}
        total, missing = total + len(expected), missing + len(expected - actual)
    return total, missing


def _relative(layout: Layout) -> str:
    from pathlib import Path

    return str(layout.root.relative_to(Path.cwd()) if layout.root.is_relative_to(Path.cwd()) else layout.root)
