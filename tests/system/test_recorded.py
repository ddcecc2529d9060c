"""Recorded frames, through a real broker and real Spark, into Gold: the same ids, also if the platform is killed."""

import gzip
import re
from pathlib import Path

import pytest

from tests.java_options import COMPILED
from tests.system.harness import eventually, exchange, feed, platform
from tests.system.test_kills import settled

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(600)]

RECORDED = {"BTCUSDT": 9_757, "ETHUSDT": 6_106}


def recorded_ids(captures: Path, symbol: str) -> list[str]:
    """The trade ids of a recording, read without any of K2's code."""
    with gzip.open(captures / f"binance_spot_{symbol.lower()}.gz", "rt") as lines:
        return [match[1] for line in lines if (match := re.search(r'"e":"trade".*?"t":(\d+)', line))]


def test_every_recorded_trade_is_in_gold_once_although_the_platform_was_killed(
    captures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JDK_JAVA_OPTIONS", COMPILED)  # Spark compiles its expressions, as on users' platforms
    recorded = {symbol: recorded_ids(captures, symbol) for symbol in RECORDED}
    assert {symbol: len(set(ids)) for symbol, ids in recorded.items()} == RECORDED
    files = [word for symbol in RECORDED for word in ("--capture", str(captures / f"binance_spot_{symbol.lower()}.gz"))]
    symbols = ["--symbols", *RECORDED]
    with (
        exchange("binance", *symbols, *files, "--speed", "0", log=tmp_path / "exchange.log") as binance,
        platform(tmp_path, feed("binance", list(RECORDED), binance.port)) as running,
    ):
        eventually(
            "every recorded trade is delivered", lambda: running.status().get("delivered") == sum(RECORDED.values())
        )
        orphans = running.state.children
        assert running.process is not None
        running.process.kill()
        running.process.wait()
        assert any(child.find() for child in orphans.values())
        running.up()
        assert not any(child.find() for child in orphans.values())
        eventually("it runs again", lambda: settled(running))
        assert running.down() == 0
        for symbol, ids in recorded.items():
            assert sorted(running.gold(symbol)) == sorted(ids)
        code, report = running.audit()
        assert (code, report["verdict"], report["findings"]) == (0, "balanced", [])
