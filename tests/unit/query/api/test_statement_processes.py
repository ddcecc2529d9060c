"""`k2 serve` and `k2 sql` as processes, attacked with statements."""

import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psutil
import pytest

from k2.cli.embedded.layout import Layout
from tests.unit.query.conftest import Append, trade
from tests.unit.query.sql.cage.running import HANG, K2, statement_processes
from tests.unit.query.sql.cage.test_statements import digests

BOMB = "SELECT levenshtein(repeat('a', 1000000), repeat('b', 1000000))"
ENDS_WITHIN = 5.0  # seconds on an idle machine, of which a server waits 2 for responses in progress


@contextmanager
def serving(layout: Layout, log: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    with log.open("wb") as sink:
        server = subprocess.Popen(
            [*K2, "serve", "--port", "0", "--data", str(layout.root)], stderr=sink, cwd=log.parent
        )
    try:
        while "serving " not in log.read_text():
            assert server.poll() is None, log.read_text()
            time.sleep(0.05)
        yield log.read_text().split("serving ")[1].split()[0], server
    finally:
        server.kill()
        server.wait()


def ask(url: str, statement: str) -> tuple[int, str]:
    body = json.dumps({"statement": statement}).encode()
    try:
        with urlopen(Request(f"{url}/v1/sql", body, {"Content-Type": "application/json"}), timeout=120) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()


def ends_within() -> float:
    """Seconds in which this machine does, with what else it runs, what takes an idle one 5."""
    return ENDS_WITHIN * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def unread_answer(url: str, statement: str) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])))
    body = json.dumps({"statement": statement})
    client.sendall(
        "POST /v1/sql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: text/csv\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
    )
    return client


def test_a_server_with_unread_answers_and_running_statements_ends_on_sigterm(
    layout: Layout, append: Append, tmp_path: Path
) -> None:
    append([trade(1)])
    log = tmp_path / "serve.log"
    with serving(layout, log) as (url, server):
        unread = [unread_answer(url, "SELECT range, repeat('x', 2000) FROM range(20000)") for _ in range(3)]
        assert ask(url, "SELECT 1 AS one") == (200, '{"data":[{"one":1}],"truncated":false}')
        bomb = threading.Thread(target=lambda: _ignore(url, BOMB))
        bomb.start()
        statement_processes(server.pid)
        server.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert server.wait(HANG) == 0
        assert time.monotonic() - began < ends_within()
        bomb.join()
        for client in unread:
            client.close()
    logged = log.read_text()
    assert "Traceback" not in logged
    assert "Exception in ASGI" not in logged


def test_a_server_under_attack_answers_others_logs_little_and_ends_on_sigterm(
    layout: Layout, append: Append, tmp_path: Path
) -> None:
    append([trade(number, number) for number in range(1000)])
    before, log = digests(layout.root), tmp_path / "serve.log"
    with serving(layout, log) as (url, server):
        assert ask(url, "SELECT count(*) AS n FROM gold_crypto_trades")[0] == 200
        logged = log.stat().st_size
        for statement in (
            "WITH x AS (COPY (SELECT 1) TO '/tmp/k2-copied.csv') SELECT 1",
            "SELECT " + "(" * 480 + "1" + "+1)" * 480 + " FROM nothing",
            "SELECT '" + "x" * 90_000 + "' FROM nothing",
            f"SELECT {'x' * 90_000}()",
            f"SELECT * FROM {'x' * 90_000}",
            "SELECT length(repeat('x', 2000000000))",
            "SELECT 170141183460469231731687303715884105727::HUGEINT AS v",
        ):
            status, answer = ask(url, statement)
            assert status in {400, 413}, answer
            assert len(answer) < 2000
        assert log.stat().st_size - logged < 3000
        assert "Traceback" not in log.read_text()
        bombs = [threading.Thread(target=lambda: _ignore(url, BOMB)) for _ in range(2)]
        for bomb in bombs:
            bomb.start()
        unread = [unread_answer(url, f"SELECT range, repeat('x', 2000) FROM range({rows})") for rows in (10**5, 10**9)]
        for _ in range(3):
            with urlopen(f"{url}/v1/trades?symbol=BTCUSDT&limit=1", timeout=60) as answer:
                assert answer.status == 200
        processes = psutil.Process(server.pid).children(recursive=True)
        assert psutil.Process(server.pid).memory_info().rss < 1_500_000_000
        server.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert server.wait(HANG) == 0
        assert time.monotonic() - began < ends_within()
        assert "Traceback" not in log.read_text()
        for client in unread:
            client.close()
        assert psutil.wait_procs(processes, HANG)[1] == []
        for bomb in bombs:
            bomb.join()
    assert digests(layout.root) == before


def test_ctrl_c_ends_a_statement_at_once(layout: Layout, append: Append) -> None:
    append([trade(1)])
    command = [*K2, "sql", BOMB, "--data", str(layout.root)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True) as running:
        processes = statement_processes(running.pid)
        running.send_signal(signal.SIGINT)
        began = time.monotonic()
        assert running.wait(HANG) == 130
        assert time.monotonic() - began < ends_within()
        assert psutil.wait_procs(processes, HANG)[1] == []
        assert running.stderr is not None
        assert b"Traceback" not in running.stderr.read()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_a_command_that_a_signal_ends_leaves_no_process(layout: Layout, append: Append, number: signal.Signals) -> None:
    append([trade(1)])
    with subprocess.Popen([*K2, "sql", BOMB, "--data", str(layout.root)]) as running:
        processes = statement_processes(running.pid)
        running.send_signal(number)
        assert running.wait(HANG) != 0
        assert psutil.wait_procs(processes, HANG)[1] == []


def _ignore(url: str, statement: str) -> None:
    try:
        ask(url, statement)
    except OSError:  # the server has ended
        return
