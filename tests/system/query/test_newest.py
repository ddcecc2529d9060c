"""A running platform that commits: hybrid queries, quotes beside the trades, and `k2 watch` on a terminal."""

import json
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest

from k2.query.engine import Engine
from tests.system.harness import Exchange, Running, eventually, feed, k2, platform

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

SYMBOLS = ["BTCUSDT", "ETHUSDT"]
SECONDS = 5.0  # from the exchange to Kafka
QUERY_SECONDS = 20.0


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    words = ("--simulate", "--rate", "60", "--memory", "700m")
    records_both = feed("binance", SYMBOLS, channels=["trades", "quotes"])
    with platform(tmp_path_factory.mktemp("newest"), records_both, words=words) as running_platform:
        eventually("trades are in Gold", lambda: running_platform.status().get("rows", {}).get("gold"), within=300)
        yield running_platform


def exchange(running: Running) -> Exchange:
    return Exchange(running.state.ports["simulator-binance"])


def test_every_query_during_commits_has_each_trade_once(running: Running):
    ports, traded = running.state.ports, exchange(running)
    services = running.layout.platform(kafka_port=ports["kafka"], registry_port=ports["registry"])
    snapshots, queries, ahead_of_gold = set(), 0, 0
    with closing(Engine(services, live=True)) as engine:
        until = time.monotonic() + QUERY_SECONDS
        while time.monotonic() < until or len(snapshots) < 4:
            before = traded.emitted()
            time.sleep(SECONDS)
            snapshot = engine.snapshot_id()
            rows = engine.trades(hybrid=True)
            in_gold = engine.trades(as_of=snapshot).num_rows
            for symbol, ids in before.items():
                mask = [name == symbol for name in rows.column("symbol").to_pylist()]
                ids_of_symbol = [
                    one for one, ours in zip(rows.column("trade_id").to_pylist(), mask, strict=True) if ours
                ]
                assert len(ids_of_symbol) == len(set(ids_of_symbol)), "a trade is there twice"
                first = min(map(int, ids_of_symbol))
                assert not {one for one in ids if int(one) >= first} - set(ids_of_symbol), "a trade is not there yet"
            snapshots.add(snapshot)
            ahead_of_gold += rows.num_rows > in_gold
            queries += 1
    assert queries >= 4
    assert ahead_of_gold, "no query returned more than Gold holds"


def test_quotes_are_in_gold_once_and_their_processes_end_does_not_touch_the_trades(running: Running):
    def connections() -> set[str]:
        return {row["connection"] for row in running.sql("SELECT DISTINCT connection FROM gold_crypto_quotes")}

    def connected() -> bool:
        return [channel["connected"] for channel in running.status()["channels"]] == [1, 1]

    eventually("quotes are in Gold", lambda: running.status()["rows"].get("quotes/gold"))
    trades_process, before = running.state.children["ingest-binance-0-0"], connections()
    running.kill("ingest-binance-quotes-0-0")
    eventually("quotes are received again", lambda: connections() - before)
    eventually("both channels are connected", connected)
    assert running.state.children["ingest-binance-0-0"] == trades_process
    trades, _ = running.status()["channels"]
    assert (trades["name"], trades["reconnects"], trades["open_gaps"]) == ("trades", 0, 0)
    for symbol, emitted in exchange(running).quotes().items():
        by_connection = quotes_until(running, symbol, max(emitted))
        assert len(by_connection) >= 2
        for sequences in by_connection.values():
            assert sequences == [one for one in emitted if sequences[0] <= one <= sequences[-1]]


def quotes_until(running: Running, symbol: str, newest: int) -> dict[str, list[int]]:
    """Each connection's sequences in Gold up to `newest`, in order, once that is there."""
    query = f"SELECT connection, sequence FROM gold_crypto_quotes WHERE symbol = '{symbol}' ORDER BY ordinal"

    def rows() -> list[dict]:
        return running.sql(query)

    eventually("the newest quote is in Gold", lambda: max(row["sequence"] for row in rows()) >= newest)
    by_connection: dict[str, list[int]] = {}
    for row in rows():
        if row["sequence"] <= newest:
            by_connection.setdefault(row["connection"], []).append(row["sequence"])
    return by_connection


def test_the_command_line_reads_trades_that_gold_does_not_hold_yet(running: Running):
    asked = ("--symbol", "BTCUSDT", "--format", "json", "--data", str(running.root))
    done = k2("trades", "--window-minutes", "15", "--hybrid", *asked)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(int(later["trade_id"]) == int(earlier["trade_id"]) + 1 for earlier, later in pairwise(rows))
    bars = [json.loads(line) for line in k2("ohlcv", "--hybrid", *asked).stdout.splitlines()]
    assert sum(bar["trade_count"] for bar in bars) >= len(rows)


def on_a_terminal(*words: str) -> tuple[int, str]:
    """Return what a command prints on a terminal of 100 by 30, without colours."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "k2.cli.main", *words]
    environment = os.environ | {"COLUMNS": "100", "LINES": "30", "TERM": "xterm"}
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, stdin=theirs, env=environment) as process:
        os.close(theirs)
        drawn = b""
        while True:
            try:
                drawn += os.read(ours, 65_536)
            except OSError:  # the other end is closed
                break
        code = process.wait(60)
    os.close(ours)
    return code, re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", drawn.decode())


def test_watch_shows_new_trades_and_the_health_of_the_feeds(running: Running):
    code, drawn = on_a_terminal("watch", "--data", str(running.root), "--duration", "12s", "--symbols", "ETHUSDT")
    assert code == 0, drawn
    lines = drawn.splitlines()
    assert any(re.match(r"binance +binance +2 +Running", line) for line in lines)
    trades = [
        line for line in lines if re.search(r"BINANCE +ETHUSDT +(BUY|SELL) +\d+(\.\d+)? +\d+(\.\d+)? +-?\d+\.\ds", line)
    ]
    assert len({line.split()[0] for line in trades}) > 5
    assert "BTCUSDT" not in drawn


def test_watch_without_a_platform_is_an_error(tmp_path: Path):
    done = k2("watch", "--data", str(tmp_path))
    assert (done.returncode, "start it with k2 up" in done.stderr) == (3, True)
    away = k2("watch", "--url", "http://127.0.0.1:1")
    assert (away.returncode, "did not respond" in away.stderr) == (3, True)
    assert k2("watch", "--data", str(tmp_path), "--duration", "soon").returncode == 2
