"""What a new process finds of an old one: in any partition, however old, and of its own protocol only."""

import gc
import time
from types import SimpleNamespace

import pytest
from confluent_kafka import Producer

from k2.common.kafka_connection import KafkaConnection
from k2.ingest.backfill.policy import Policy
from k2.ingest.exchanges.base import NO_ID, Gap
from k2.ingest.kafka import resume
from k2.ingest.kafka.partitions import partition_of
from k2.ingest.kafka.resume import Protocol, apply, read, summary
from k2.ingest.sequencing import gaps
from k2.ingest.sequencing.ids import SequenceTracker
from k2.ingest.sequencing.ledger import GapLedger
from k2.ingest.sequencing.reconnect_windows import ReconnectWindowTracker
from k2.ingest.sequencing.tracker import Position
from k2.ingest.simulator.listings import pair_of
from k2.ingest.telemetry.stats import Stats
from k2.schemas.channels import TRADES
from k2.schemas.codecs import avro
from k2.schemas.codecs.avro import TradeEncoder
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.records.trade import Side, Trade
from k2.schemas.states import GapReason, GapState

NUMBERED = Protocol("", has_sequence=True, record_ids="[0-9]{1,19}")
V1 = Protocol("v1", has_sequence=False, record_ids=r"KRAKEN-[0-9]+-[0-9a-f]{16}")
DERIVED = "KRAKEN-1618678150826417-0123456789abcdef"
DAY = 86_400_000_000
NOW = 1_700_000_000_000_000
PAIR = pair_of(EXCHANGES["binance"], "BTCUSDT")


class Topic:
    """Puts trades where a producer with another number of partitions would."""

    def __init__(self, broker, names) -> None:
        self._producer = Producer({"bootstrap.servers": broker.bootstrap, "log_level": 0})
        self._encoder = TradeEncoder(7)
        self._topic, self._bootstrap, self._names = names.records, broker.bootstrap, names

    def put(self, trade_id: str, symbol: str = "BTCUSDT", *, count: int = 4, ago: float = 0.0, source: str = "live"):
        """Stores a trade that was written `ago` seconds ago, when the topic had `count` partitions."""
        trade = Trade(
            trade_id, symbol, "BINANCE", "B", "Q", NOW, 1, 1, Side.BUY, NOW, (("source", source),)
        )  # fmt: skip
        partition = partition_of(symbol.encode(), count)
        written = int((time.time() - ago) * 1000)
        self._producer.produce(self._topic, self._encoder.encode(trade), symbol, partition, timestamp=written)

    def read(self, *symbols: str, protocol: Protocol = NUMBERED, feed: str = "spot") -> resume.ResumeState:
        """Resumes."""
        assert self._producer.flush(10) == 0
        pairs = [SimpleNamespace(symbol=symbol) for symbol in symbols or ("BTCUSDT",)]
        return read(
            KafkaConnection(self._bootstrap),
            channel=TRADES, records=self._names.records, gaps=self._names.gaps, feed=feed,
            pairs=pairs, schemas={7: avro.text()}, protocol=protocol,
        )  # fmt: skip

    def put_gap(self, event: gaps.GapEvent) -> None:
        """Stores a gap event, in the topic's only partition."""
        self._producer.produce(self._names.gaps, event.encode(), event.symbol, 0)


@pytest.fixture
def topic(broker, names):
    yield Topic(broker, names)
    gc.collect()


def moved(count: int) -> str:
    """A symbol whose partition differs between `count` and the topic's four partitions."""
    symbols = (f"A{number}USDT" for number in range(100))
    return next(name for name in symbols if partition_of(name.encode(), count) != partition_of(name.encode(), 4))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_last_trade_is_found_in_the_partition_of_an_earlier_count(topic, count):
    symbol = moved(count)
    for number in range(1, 56):
        topic.put(str(number), symbol, count=count, ago=3600)
    assert topic.read(symbol).positions[symbol].record_id == "55"


def test_the_newest_of_several_partitions_counts(topic):
    symbol = moved(3)
    for number in range(1, 1500):
        topic.put(str(number), symbol, count=3, ago=7200)
    topic.put("1500", symbol, ago=60)
    topic.put("1501", symbol, count=3, ago=30)  # of a replica that did not know yet
    assert topic.read(symbol).positions[symbol].record_id == "1501"


def test_a_trade_is_found_however_old_and_behind_however_many_others(topic, monkeypatch):
    monkeypatch.setattr(resume, "_LARGEST_CHUNK", 2000)
    others = (f"B{number}USDT" for number in range(100))
    busy = next(name for name in others if partition_of(name.encode(), 4) == partition_of(b"BTCUSDT", 4))
    topic.put("77", ago=30 * 86_400)
    for number in range(1, 9001):
        topic.put(str(number), busy, ago=3 * 86_400)
    state = topic.read("BTCUSDT", busy)
    assert {symbol: position.record_id for symbol, position in state.positions.items()} == {
        "BTCUSDT": "77", busy: "9000",
    }  # fmt: skip
    assert summary(state) == ""


def test_a_search_that_takes_too_long_says_so(topic, monkeypatch):
    monkeypatch.setattr(resume, "_LONGEST_SEARCH", -1.0)
    topic.put("77")
    state = topic.read()
    assert (dict(state.positions), state.unknown) == ({}, {"BTCUSDT"})
    assert "BTCUSDT: no record found in time" in summary(state)


def gap_event(first: int, last: int, protocol: str | None = "", **closed) -> gaps.GapEvent:
    gap = Gap(PAIR, first, last, NOW - 2 * DAY, NOW - DAY, "anchor" if first == NO_ID else "")
    event = gaps.open_event("spot", "trades", "BINANCE", gap, NOW - DAY, protocol)
    return gaps.close_event(event, at=NOW, **closed) if closed else event


def test_without_a_record_the_last_gap_says_how_far_the_feed_came(topic):
    topic.put_gap(gap_event(5, 9))
    topic.put_gap(gap_event(20, 29, state=GapState.REPAIRED, resolution="rest"))
    state = topic.read()
    assert (state.positions["BTCUSDT"].record_id, state.from_gaps) == ("29", {"BTCUSDT"})
    assert "resumed from the last gap" in summary(state)


def test_records_and_gaps_of_another_protocol_are_left_alone(topic):
    """From v1 to v2: neither an id that is none, nor a gap from -1 on."""
    topic.put("41")
    topic.put(DERIVED)
    topic.put_gap(gap_event(NO_ID, NO_ID, "v1"))
    topic.put_gap(gap_event(NO_ID, NO_ID, None))  # of an older version
    topic.put_gap(gap_event(42, 43, None))
    state = topic.read()
    assert (state.positions["BTCUSDT"].record_id, [event.first_id for event in state.gaps]) == ("41", ["42"])
    assert "BTCUSDT: newer records or open gaps are of another protocol" in summary(state)
    back = topic.read(protocol=V1)
    assert (back.positions["BTCUSDT"].record_id, {event.first_id for event in back.gaps}) == (DERIVED, {""})


def applied(state, tracker, policy: Policy, rules: str = "r"):
    sent = []
    publisher = SimpleNamespace(send_gap=sent.append)
    ledger = GapLedger("spot", "trades", "BINANCE", publisher, Stats(0.0), now=lambda: NOW)
    apply(state, [PAIR], tracker, ledger, policy, rules, NOW)
    return ledger, sent


def test_another_protocols_state_invents_no_gap(topic, observed):
    topic.put(DERIVED)
    topic.put_gap(gap_event(NO_ID, NO_ID, "v1"))
    tracker = SequenceTracker()
    ledger, _ = applied(topic.read(), tracker, Policy(enabled=True, max_age=7 * 86_400))
    assert tracker.observe(PAIR, observed(80_000_000)) is None
    assert ledger.repairs.empty()
    windows = ReconnectWindowTracker()
    topic.put("80000000")
    topic.put_gap(gap_event(5, 9))
    ledger, _ = applied(topic.read(protocol=V1), windows, Policy(enabled=True, max_age=7 * 86_400))
    assert ledger.repairs.get_nowait().is_window
    assert ledger.repairs.empty()


WEEK = Policy(enabled=True, max_age=7 * 86_400)


@pytest.mark.parametrize(
    ("reason", "rules", "policy", "again"),
    [
        (None, "", WEEK, True),  # of an older version, whatever its reason
        (GapReason.BAD_REQUEST, "old", WEEK, True),
        (GapReason.BAD_REQUEST, "r", WEEK, False),
        (GapReason.OUT_OF_HISTORY, "r", WEEK, False),
        (GapReason.MAX_IDS, "r", WEEK, True),
        (GapReason.MAX_IDS, "r", Policy(enabled=True, max_age=7 * 86_400, max_ids=4), False),
        (GapReason.MAX_AGE, "r", WEEK, True),
        (GapReason.MAX_AGE, "r", Policy(enabled=True, max_age=3600), False),
        (GapReason.DISABLED, "r", WEEK, True),
        (GapReason.DISABLED, "r", Policy(enabled=False, max_age=7 * 86_400), False),
        (GapReason.BAD_REQUEST, "old", Policy(enabled=True, max_age=3600), False),
    ],
)
def test_a_gap_that_was_given_up_is_judged_again_where_its_reason_is_gone(topic, reason, rules, policy, again):
    given_up = gap_event(5, 9, state=GapState.UNRECOVERABLE, resolution="rest: no", reason=reason, rules=rules)
    topic.put_gap(given_up)
    tracker = SequenceTracker()
    ledger, sent = applied(topic.read(), tracker, policy)
    assert ledger.repairs.empty() is not again
    if again:
        (event,) = sent
        assert (event.state, event.gap_id, event.detected_at) == (GapState.OPEN, given_up.gap_id, given_up.detected_at)
        assert event.resolution == "judged again, after: rest: no"
        assert tracker.missing(ledger.repairs.get_nowait()) == ((5, 9),)


def test_ids_that_were_never_issued_are_watched_by_the_next_process(topic, observed):
    topic.put("20")
    topic.put_gap(gap_event(5, 9, state=GapState.NEVER_ISSUED, resolution="rest", missing=[(7, 7)], evidence=["k"]))
    tracker = SequenceTracker()
    ledger, _ = applied(topic.read(), tracker, WEEK)
    assert ledger.repairs.empty()
    (gap,) = tracker.observe(PAIR, observed(7)).closed
    ledger._publisher.send_gap = (sent := []).append
    ledger.close(gap, GapState.REPAIRED, "late")
    assert (sent[0].state, sent[0].evidence) == (GapState.REPAIRED, "k")


def test_a_last_trade_from_the_future_does_not_date_the_gap_behind_it(observed):
    tracker = SequenceTracker()
    applied(resume.ResumeState({"BTCUSDT": Position("20", NOW * 5)}, []), tracker, WEEK)
    gap = tracker.observe(PAIR, observed(22, time=NOW + 9)).gap
    assert (gap.since, gap.until) == (NOW, NOW + 9)
