"""What a user or a machine gets wrong, through `k2 up` itself: one clear line, the right exit code, nothing lost."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
import yaml

from tests.system.harness import Running, eventually, exchange, feed, k2, platform
from tests.system.test_kills import settled

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]


def refused(folder: Path, body: dict, *words: str) -> tuple[int, str]:
    """The exit code of `k2 up`, and its last line."""
    file = folder / "feed.yaml"
    file.write_text(yaml.safe_dump(body))
    done = k2("up", "-f", str(file), "--data", str(folder / "data"), "--no-audit", *words, timeout=180)
    return done.returncode, done.stderr.strip().splitlines()[-1]


def test_an_exchange_that_cannot_be_reached_is_given_up_after_the_attempts(tmp_path: Path):
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))  # so that nobody else listens there
        port = taken.getsockname()[1]
        code, message = refused(tmp_path, feed("binance", ["BTCUSDT"], port), "--attempts", "2")
    assert code == 3
    assert message.startswith("binance: the instrument list of binance cannot be read: http://127.0.0.1:")
    assert "Cannot connect to host" in message


@pytest.mark.slow
def test_an_exchange_that_only_answers_rest_is_given_up_after_the_attempts(tmp_path: Path):
    with (
        closing(socket.socket()) as taken,
        exchange("binance", "--symbols", "BTCUSDT", log=tmp_path / "exchange.log") as binance,
    ):
        taken.bind(("127.0.0.1", 0))
        body = feed("binance", ["BTCUSDT"], binance.port)
        body["spec"]["ingest"]["endpoints"] = [f"ws://127.0.0.1:{taken.getsockname()[1]}"]
        code, message = refused(tmp_path, body, "--attempts", "2")
    assert code == 3
    assert message.startswith("binance: no data after 2 attempts; the last failed with ws://127.0.0.1:")
    assert "Cannot connect to host" in message


def test_symbols_that_the_exchange_does_not_know_end_the_feed(tmp_path: Path):
    with exchange("kraken", "--symbols", "BTC/USD", log=tmp_path / "exchange.log") as kraken:
        code, message = refused(tmp_path, feed("kraken", ["NOPE/USD"], kraken.port))
    assert code == 2
    assert "refused every symbol; NOPE/USD:" in message


def test_a_port_in_use_is_named_before_anything_starts(tmp_path: Path):
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        code, message = refused(tmp_path, feed("binance", ["BTCUSDT"]), "--simulate", "--kafka-port", str(port))
    assert code == 2
    assert f"--kafka-port {port} is in use" in message
    assert not (tmp_path / "data" / "logs").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 700 MB, where the platform's folder will be."""
    folder = tmp_path / "data"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=700m", "k2-test", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
def test_a_full_disk_stops_the_flow_and_loses_nothing(small_disk: Path, tmp_path: Path):
    with (
        exchange("binance", "--rate", "40", "--wait", log=tmp_path / "exchange.log") as binance,
        platform(tmp_path, feed("binance", ["BTCUSDT", "ETHUSDT"], binance.port)) as running,
    ):
        eventually("trades are in Gold", lambda: running.status().get("rows", {}).get("gold"))
        eventually("the platform says what is wrong", lambda: said_while_full(running, small_disk))
        (small_disk / "filler").unlink()
        before = newest(running)
        eventually("the layers go on", lambda: newest(running) > before + 200, within=180)
        eventually("no gap is open", lambda: settled(running), within=180)
        assert running.down() == 0
        for native, ids in binance.emitted().items():
            gold_ids = running.gold(native)
            last = max(map(int, gold_ids))
            assert len(gold_ids) == len(set(gold_ids))
            assert set(gold_ids) == {number for number in ids if int(number) <= last}
        code, report = running.audit()
        assert (code, report["findings"]) == (0, [])


def newest(running: Running) -> int:
    """The newest trade of BTCUSDT in Gold."""
    return max(map(int, running.gold("BTCUSDT")))


def said_while_full(running: Running, folder: Path) -> bool:
    """Whether the platform names a full disk; keeps it full meanwhile, for what the platform deletes is room again."""
    fill(folder)
    return "the disk is full: free some space" in running.said()


def fill(folder: Path) -> None:
    """Takes every byte that is left, and for a few seconds those that come free."""
    deadline = time.monotonic() + 3
    with (folder / "filler").open("ab") as file:
        taken = file.tell()
        while time.monotonic() < deadline:
            free = shutil.disk_usage(folder).free
            if free:
                with suppress(OSError):  # somebody else was faster
                    os.posix_fallocate(file.fileno(), taken, free)
                    taken += free
            time.sleep(0.02)
