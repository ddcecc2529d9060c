"""A platform that is backed up, lost, and restored into another folder goes on as if nothing had happened."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.harness import Exchange, Running, eventually, exchange, feed, k2, platform, started

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

SYMBOL = "BTCUSDT"


@pytest.fixture
def simulated(tmp_path: Path) -> Iterator[Exchange]:
    """An exchange that trades all the time."""
    words = ("--symbols", SYMBOL, "--rate", "20", "--seed", "backup", "--wait")
    with exchange("binance", *words, log=tmp_path / "exchange.log") as opened:
        yield opened


@pytest.fixture
def restored(tmp_path: Path, simulated: Exchange) -> Running:
    """A platform that has been stopped, backed up, lost, and restored into another folder; it does not run."""
    with platform(tmp_path, feed("binance", [SYMBOL], simulated.port)) as running:
        eventually("trades are in Gold", lambda: running.status().get("rows", {}).get("gold", 0) > 100)
        _refused("backup", str(tmp_path / "backup"), at=running)
        assert running.down() == 0, running.said()
        before = running.gold(SYMBOL)
        done = k2("backup", str(tmp_path / "backup"), "--data", str(running.root))
        assert done.returncode == 0, done.stderr
        shutil.rmtree(running.root)
    other = tmp_path / "elsewhere" / "restored"
    done = k2("restore", str(tmp_path / "backup"), "--data", str(other))
    assert done.returncode == 0, done.stderr
    copy = Running(other, running.feeds)
    assert sorted(copy.gold(SYMBOL)) == sorted(before)
    return copy


@pytest.mark.slow
def test_a_restored_platform_goes_on_and_is_balanced(simulated: Exchange, restored: Running):
    with started(restored):
        _refused("rebuild", "silver", at=restored)
        expected = simulated.emitted()[SYMBOL]
        eventually("Gold has everything", lambda: expected <= set(restored.gold(SYMBOL)))
        assert restored.down() == 0, restored.said()
    stored = restored.gold(SYMBOL)
    assert len(stored) == len(set(stored))
    code, report = restored.audit()
    assert (code, report["findings"]) == (0, []), report


@pytest.mark.slow
def test_a_restored_platform_is_balanced_at_once_and_can_be_rebuilt(tmp_path: Path, restored: Running):
    code, report = restored.audit()
    assert (code, report["findings"]) == (0, []), report
    with started(restored):
        eventually("it writes Gold", lambda: restored.status().get("rows", {}).get("gold", 0) > 100)
        assert restored.down() == 0, restored.said()
    _rebuild(restored, set(restored.gold(SYMBOL)))
    assert _of_another_moment(tmp_path, restored)


def _refused(*words: str, at: Running) -> None:
    """Run a command that wants the platform to be stopped, and see it refused."""
    done = k2(*words, "--data", str(at.root))
    assert (done.returncode, "stop it with k2 down" in done.stderr) == (2, True), done.stderr


def _rebuild(restored: Running, stored: set[str]) -> None:
    """Build Silver and Gold again, which ends with an audit, and read what was before by its tag."""
    done = k2("rebuild", "silver", "--data", str(restored.root), timeout=300)
    assert done.returncode == 0, done.stderr
    assert "balanced" in done.stdout
    document = json.loads(done.stdout[: done.stdout.index("\n]") + 2])
    assert [(one["table"], one["rows"] == one["before"]) for one in document] == [
        ("silver_binance_trades", True),
        ("gold_crypto_trades", True),
    ]
    assert set(restored.gold(SYMBOL)) == stored
    words = ("trades", "--symbol", SYMBOL, "--as-of", document[1]["tag"], "--format", "csv")
    before = k2(*words, "--data", str(restored.root))
    assert before.stdout.count("\n") == len(stored) + 1, before.stderr
    dropped = k2("rebuild", "gold", "--drop-old", "--data", str(restored.root), timeout=300)
    assert (dropped.returncode, document[1]["tag"] in dropped.stdout) == (0, True), dropped.stderr


def _of_another_moment(folder: Path, restored: Running) -> str:
    """Restore the backup of now with the Kafka of before, which is refused."""
    newer = folder / "newer"
    done = k2("backup", str(newer), "--data", str(restored.root))
    assert done.returncode == 0, done.stderr
    shutil.rmtree(newer / "kafka")
    shutil.copytree(folder / "backup" / "kafka", newer / "kafka")
    done = k2("restore", str(newer), "--data", str(folder / "third"))
    assert done.returncode == 2
    assert "checkpoints is newer than kafka: binance-" in done.stderr, done.stderr
    assert not (folder / "third").exists()
    return done.stderr
