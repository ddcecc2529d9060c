"""A real shard, over real sockets, against each venue with each of its faults: nothing is lost in silence."""

import asyncio

import pytest

from k2.ingest.connection.session import Tuning
from k2.ingest.simulator.faults import KINDS, parse
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.exchanges.spec import SequenceScheme
from tests.hostile.judge import Judge, states

TUNING = {"backoff_first": 0.1, "backoff_limit": 0.3, "answer_within": 1.0, "silence": 1.5}
SECOND = "SECOND"  # the venue's second symbol

# Faults that are there when the ingest connects.
AT_START = [
    ["busy=2"], ["unanswered=2"], ["undone=2"], ["late-answer=1500ms"], ["refuse=3"], ["delist"], ["halt"],
    ["wrong-pong=3s"], ["maintenance=3s"],
    ["limit=1,arguments"], ["limit=1,symbols"], ["limit=90,bytes"], ["limit=20,characters"], ["limit=2,connects"],
    ["limit=1,messages"],
]  # fmt: skip
# Faults that begin while both symbols flow.
RUNNING = [
    ["close"], ["close-code=1012"], ["close-code=1001"], ["shutdown=2s"], ["maintenance=2s"], ["cut=1s"],
    ["silent=3s"], ["quiet=3s"], [f"mute=4s,{SECOND}"], [f"stuck={SECOND}"], [f"frozen={SECOND}"],
    ["malformed=10", "unknown=5", "oversized=1"], ["repeat=50"], ["bad-item=5"], ["extra=3s"], ["extra=20s", "drop=20"],
    ["conflict"], ["late=2h"], ["phantom=3"], ["delist"], ["halt"], ["list"], ["clock=4s"], ["weight=5990", "drop=20"],
]  # fmt: skip
# Faults of the REST API while it is needed, because trades were dropped.
REST = [
    "passing=6", "status=451", "status=408", "html=3", "cut-body=3", "ratelimit=2", "unavailable=2", "ban=2s",
    "lag=3s", "empty=3", "omit=3", "disorder=3", "other-symbol=3",
]  # fmt: skip
NOT_TRADING = {"delist", "halt"}
# Faults that end by themselves after the time that is their argument, or that act until then.
TIMED = {"shutdown", "maintenance", "cut", "silent", "quiet", "mute"}
# The exchanges that have such a limit.
ONLY = {
    "limit=1,arguments": {"bybit"}, "limit=1,symbols": {"binance", "coinbase", "okx"}, "limit=90,bytes": {"okx"},
    "limit=20,characters": {"bybit"}, "limit=1,messages": {"kraken"},
}  # fmt: skip
# Without consecutive ids, a loss on an open connection leaves no trace if more than 60 trades follow at once.
UNSEEN = {"drop", "mute", "quiet", "silent", "omit"}


def cases(scenarios, *, numbered=False):
    """Every scenario on every exchange; on one of them in turn also outside the slow tier."""
    made = []
    for place, faults in enumerate(scenarios):
        names = [name for name in EXCHANGES if name in ONLY.get(faults[0], EXCHANGES)]
        if numbered or UNSEEN & {fault.partition("=")[0] for fault in faults}:
            names = [name for name in names if EXCHANGES[name].sequence is SequenceScheme.CONSECUTIVE]
        for number, exchange in enumerate(names):
            marks = () if (place + number) % len(names) == 0 else (pytest.mark.slow,)
            made.append(pytest.param(exchange, faults, id=f"{exchange}-{'-'.join(faults)}", marks=marks))
    return made


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Waits of minutes are waits of a second."""
    for name, seconds in {
        "backfill.schedule._FIRST": 0.3, "backfill.schedule._MOST": 1.0, "backfill.absence.APART": 1.0,
        "connection.subscriptions._UNANSWERED_PAUSE": 1.0, "connection.subscriptions._BUSY_PAUSE": 0.2,
        "connection.refusals._RETRY_FIRST": 1.0, "connection.connection._REPEATED_AFTER": 0.3,
        "connection.connection._NOTICE": 1.0,
    }.items():  # fmt: skip
        monkeypatch.setattr(f"k2.ingest.{name}", seconds)


def url(simulator, scheme: str) -> str:
    return f"{scheme}://127.0.0.1:{simulator.port}"


async def started(exchange, simulator, shard):
    ingest = shard(exchange, simulator.venue.default_symbols, url(simulator, "http"))
    ingest.task = ingest.start(url(simulator, "ws"), tuning=Tuning(**TUNING))
    return ingest


def flowing(ingest, *but: str) -> bool:
    return all(state == "flowing" for symbol, state in states(ingest).items() if symbol not in but) and len(
        states(ingest)
    ) == len(ingest.pairs)


def inject(simulator, faults) -> None:
    for fault in faults:
        simulator.inject(parse(fault.replace(SECOND, simulator.venue.default_symbols[1])))


def effect(faults) -> float:
    """The seconds after which every fault has acted, and what it stopped may go on."""
    times = [parsed.amount for fault in faults if (parsed := parse(fault)).kind in TIMED]
    return max(times, default=0.0) + 1.0


def idle(faults, ingest) -> tuple[str, ...]:
    """The symbols that the faults keep from trading."""
    return (ingest.pairs[1].symbol,) if NOT_TRADING & {fault.partition("=")[0] for fault in faults} else ()


@pytest.mark.parametrize(("exchange", "faults"), cases(AT_START))
async def test_a_fault_at_the_start(exchange, faults, simulate, shard, eventually):
    simulator = await simulate(exchange, rate=300)
    inject(simulator, faults)
    await eventually(lambda: not simulator._faults._scheduled)
    ingest = await started(exchange, simulator, shard)
    others = idle(faults, ingest)
    await eventually(lambda: flowing(ingest, *others), 40)
    assert not ingest.task.done()
    await asyncio.sleep(1.0)
    judge = Judge(simulator, ingest)
    await judge.stop(40, lambda: not ingest.stats.gaps_open)
    assert judge.findings() == []
    if faults == ["delist"] and exchange != "binance":
        assert list(ingest.stats.refused) == [ingest.pairs[1].raw_symbol]


@pytest.mark.parametrize(("exchange", "faults"), cases(RUNNING))
async def test_a_fault_while_trades_flow(exchange, faults, simulate, shard, eventually):
    simulator = await simulate(exchange, rate=300)
    ingest = await started(exchange, simulator, shard)
    await eventually(lambda: flowing(ingest), 20)
    await eventually(lambda: min(ingest.stats.received[pair.symbol] for pair in ingest.pairs) > 20)
    inject(simulator, faults)
    await asyncio.sleep(effect(faults))
    others = idle(faults, ingest)
    before = dict(ingest.stats.received)
    await eventually(
        lambda: all(
            ingest.stats.received[pair.symbol] > before[pair.symbol] + 5
            for pair in ingest.pairs
            if pair.symbol not in others
        ),
        30,
    )
    judge = Judge(simulator, ingest)
    await judge.stop(40, lambda: not ingest.stats.gaps_open)
    assert judge.findings() == []


@pytest.mark.parametrize(("exchange", "faults"), cases([[fault] for fault in REST], numbered=True))
async def test_a_repair_from_a_history_that_fails(exchange, faults, simulate, shard, eventually):
    simulator = await simulate(exchange, rate=300)
    ingest = await started(exchange, simulator, shard)
    await eventually(lambda: flowing(ingest), 20)
    await eventually(lambda: min(ingest.stats.received[pair.symbol] for pair in ingest.pairs) > 20)
    inject(simulator, [*faults, "drop=40"])
    await eventually(lambda: sum(ingest.stats.gaps_detected.values()) > 0)
    judge = Judge(simulator, ingest)
    await judge.stop(40, lambda: not ingest.stats.gaps_open)
    assert judge.findings() == []
    assert ingest.stats.gaps_open == 0
    assert {str(event.state) for event in ingest.gap_events()} == {"open", "repaired"}


def test_no_fault_is_left_out():
    tried = {fault.partition("=")[0] for faults in [*AT_START, *RUNNING, REST, ["drop"]] for fault in faults}
    # A new listing has tests of its own, and so have order books: tests/unit/ingest/books/test_simulated_faults.py.
    assert tried == {kind for kind in KINDS if kind != "reset" and not kind.startswith("book-")}
