"""kill -9, at random moments, of every part: what the exchange emitted and what Gold holds stay the same set."""

import random
import time
from pathlib import Path

import pytest

from tests.otlp_receiver import attributes, traced_children
from tests.system.harness import eventually, exchange, feed, platform

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

SEED = 20_240_611  # the moments and the order; the test prints it, change it to look for more
SYMBOLS = ["BTC/USD", "ETH/USD"]
PARTS = ["ingest-kraken-0-0", "broker", "jobs"]


@pytest.mark.parametrize(("rounds", "trades"), [(1, 6_000), pytest.param(3, 20_000, marks=pytest.mark.slow)])
def test_gold_holds_what_was_emitted_after_every_part_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rounds: int, trades: int
) -> None:
    chance = random.Random(SEED)
    print(f"seed {SEED}")
    victims = [part for _ in range(rounds) for part in chance.sample(PARTS, len(PARTS))]
    words = ["--symbols", *SYMBOLS, "--rate", "150", "--seed", str(SEED), "--count", str(trades), "--wait"]
    with (
        traced_children(monkeypatch) as traces,
        exchange("kraken", *words, log=tmp_path / "exchange.log") as kraken,
        platform(tmp_path, feed("kraken", SYMBOLS, kraken.port)) as running,
    ):
        eventually("trades are in Gold", lambda: running.status().get("rows", {}).get("gold"))
        for victim in victims:
            time.sleep(chance.uniform(2.0, 8.0))
            running.kill(victim)
            eventually(f"{victim} is started again", lambda victim=victim: alive(running, victim))
        eventually("the exchange has made its trades", lambda: kraken.finished, within=300)
        eventually("no gap is open", lambda: settled(running), within=180)
        emitted = kraken.emitted()
        assert sum(map(len, emitted.values())) == trades
        assert running.down() == 0
        for native, ids in emitted.items():
            gold_ids = running.gold(native.replace("/", ""))
            assert len(gold_ids) == len(set(gold_ids))
            assert set(gold_ids) == ids
        code, report = running.audit()
        assert (code, report["findings"]) == (0, [])
    queries = {attributes(span)["k2.query"] for _, span in traces.named("micro-batch")}
    assert {f"kraken-trades-{layer}" for layer in ("bronze", "silver", "gold")} <= queries
    assert len(traces.spans) < trades / 4  # none for a trade


def alive(running, part: str) -> bool:
    child = running.state.children.get(part)
    return child is not None and child.find() is not None


def settled(running) -> bool:
    row = running.status()
    return row.get("phase") == "Running" and row["open_gaps"] == 0 and row["connected"] == row["desired"]
