"""Frames of the exchanges' order books in, judged records out: against the simulated exchanges' own books."""

import json
from itertools import pairwise

import pytest

from k2.ingest.app import adapter_factory
from k2.ingest.exchanges import adapter
from k2.ingest.exchanges.base import (
    INEXACT,
    MALFORMED_ITEM,
    UNSUBSCRIBED,
    InvalidItem,
    MalformedFrame,
    Resubscribe,
    StateSource,
    Unfit,
)
from k2.ingest.exchanges.base_venue import Client
from k2.ingest.exchanges.books import BookAdapter
from k2.ingest.simulator.listings import pair_of
from k2.ingest.simulator.order_book import SimChange
from k2.schemas.channels import BOOK, TRADES
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.feed.model import API_VERSION, KIND, ExchangeFeed
from k2.schemas.records.book import BookKind
from k2.schemas.states import Verdict
from tests.unit.ingest.books.feed import ALL, IN_BAND, RECEIVED, Feed, records


@pytest.mark.parametrize("exchange", ALL)
def test_the_book_of_the_records_is_the_exchanges_after_every_message(exchange: str):
    feed = Feed(exchange)
    feed.step(3)
    certain = Verdict.UNVERIFIABLE if exchange == "coinbase" else Verdict.VERIFIED
    for _ in range(150):
        feed.step()
        assert feed.read.whole
        assert feed.equals()
        assert feed.last.verdict is certain
    made = records(feed.events)
    assert [record.ordinal for record in made] == list(range(1, len(made) + 1))
    assert {record.exchange for record in made} == {exchange.upper()}
    assert all(abs(record.timestamp - RECEIVED) < 60_000_000 for record in made)
    assert sum(record.kind is BookKind.SNAPSHOT for record in made) > 1  # any instant is near one


@pytest.mark.parametrize("exchange", ALL)
def test_who_subscribes_before_the_first_trade_has_the_book_from_it_on(exchange: str):
    feed = Feed(exchange, traded=False)
    feed.step(3)
    assert feed.read.whole
    assert feed.equals()


@pytest.mark.parametrize("exchange", ALL)
def test_a_lost_message_makes_records_suspect_until_the_state_is_whole_again(exchange: str):
    feed = Feed(exchange, depth=10 if exchange == "kraken" else None)
    feed.step(5)
    while '"bids":[],"asks":[]' in feed.frames()[0]:  # the last one is not received
        pass
    feed.events.clear()
    for frame in feed.frames():
        feed.receive(frame)
    if exchange == "coinbase":  # nothing tells
        assert feed.last.verdict is Verdict.UNVERIFIABLE
        return
    assert feed.last.verdict is Verdict.SUSPECT
    assert not feed.read.whole
    if exchange != "binance":
        assert Resubscribe(feed.pair.raw_symbol) in feed.events
    feed.now += 5_000_000
    feed.heal()
    feed.step(2)
    assert feed.read.whole
    assert feed.equals()
    assert feed.last.verdict is Verdict.VERIFIED


@pytest.mark.parametrize("exchange", ALL)
def test_what_comes_again_changes_nothing_or_loses_the_state(exchange: str):
    feed = Feed(exchange)
    feed.step(5)
    (frame,) = feed.frames()
    feed.receive(frame)
    feed.receive(frame)
    assert feed.last.verdict in {
        Verdict.UNVERIFIABLE,
        Verdict.SUSPECT,
        *([Verdict.VERIFIED] if exchange == "kraken" else []),
    }
    assert feed.equals()  # levels are absolute


@pytest.mark.parametrize("exchange", ["binance", "bybit", "okx"])
def test_messages_in_another_order_are_suspect(exchange: str):
    feed = Feed(exchange)
    feed.step(5)
    first, second = feed.frames()[0], feed.frames()[0]
    feed.receive(second)
    assert feed.last.verdict is Verdict.SUSPECT
    feed.receive(first)
    assert feed.last.verdict is Verdict.SUSPECT


@pytest.mark.parametrize("exchange", ALL)
def test_a_crossed_book_is_suspect(exchange: str):
    feed = Feed(exchange)
    feed.step(5)
    level = feed.book.best_ask
    assert level is not None
    change = feed.move()
    wrong = SimChange(
        change.book, change.first, change.last, change.time,
        (*change.levels, type(change.levels[0])(is_bid=True, price=level[0] + 10**12, quantity=10**12)), None, False,
    )  # fmt: skip
    if exchange == "kraken":
        feed.book.bids[level[0] + 10**12] = 10**12
    for frame in feed.side.book_frames(wrong):
        feed.receive(frame)
    assert feed.last.verdict is Verdict.SUSPECT


@pytest.mark.parametrize("exchange", ALL)
def test_a_message_with_an_impossible_level_is_invalid_and_loses_the_state(exchange: str):
    feed = Feed(exchange)
    feed.step(5)
    (invalid, *others) = feed.receive(spoil_any(feed))
    assert isinstance(invalid, InvalidItem)
    assert invalid.error in {INEXACT, MALFORMED_ITEM}
    assert invalid.symbol == feed.pair.symbol
    if exchange in IN_BAND:
        assert others == [Resubscribe(feed.pair.raw_symbol)]
    feed.receive(feed.frames()[0])
    assert feed.last.verdict is Verdict.SUSPECT


def spoil(exchange: str, frame: str) -> str:
    """A frame with a negative quantity."""
    message = json.loads(frame)
    data = message.get("data", message)
    item = data[0] if isinstance(data, list) else data
    levels = next((item[name] for name in ("b", "a", "bids", "asks", "changes") if item.get(name)), None)
    if levels is None:
        return frame
    if isinstance(levels[0], dict):
        levels[0]["qty"] = -1
    else:
        levels[0][2 if exchange == "coinbase" else 1] = "-1"
    return json.dumps(message)


@pytest.mark.parametrize("exchange", ALL)
def test_a_frame_cut_anywhere_is_malformed_and_nothing_else_is_raised(exchange: str):
    feed = Feed(exchange)
    feed.step(3)
    (frame,) = feed.frames()
    for end in range(1, len(frame), 7):
        with pytest.raises(MalformedFrame):
            feed.adapter.parse(frame[:end].encode(), feed.now)


def test_coinbase_trusts_no_book_after_a_frame_that_cannot_be_read():
    feed = Feed("coinbase")
    feed.step(3)
    feed.receive(feed.frames()[0][:40])
    feed.receive(feed.frames()[0])
    assert feed.last.verdict is Verdict.SUSPECT
    assert not feed.read.whole


@pytest.mark.parametrize("exchange", ALL)
def test_a_book_beyond_the_bound_is_refused_by_name_and_takes_no_memory(exchange: str):
    feed = Feed(exchange)
    feed.adapter.most_levels = 50
    feed.step(3)
    unfit = [event for event in feed.events if isinstance(event, Unfit)]
    assert [event.raw_symbol for event in unfit] == [feed.pair.raw_symbol]
    assert "50 levels" in unfit[0].reason
    count = len(feed.events)
    feed.step(20)
    assert len(feed.events) == count
    feed.adapter.most_levels = 10_000
    feed.request(feed.adapter.unsubscribe([feed.pair], 8))
    feed.request(feed.adapter.subscribe([feed.pair], 9))
    feed.now += 5_000_000
    feed.step(3)
    assert feed.read.whole


@pytest.mark.parametrize("exchange", ALL)
def test_symbols_that_were_not_subscribed_are_dead_letters(exchange: str):
    feed = Feed(exchange)
    feed.adapter.set_pairs([])
    (event,) = feed.receive(feed.frames()[0])
    assert isinstance(event, InvalidItem)
    assert event.error == UNSUBSCRIBED


@pytest.mark.parametrize("exchange", IN_BAND)
def test_another_subscription_is_requested_ever_more_seldom(exchange: str):
    feed = Feed(exchange)
    feed.step(2)
    frame, seconds = spoil_any(feed), []
    for second in range(400):
        feed.now = RECEIVED + (100 + second) * 1_000_000
        seconds += [second for event in feed.receive(frame) if isinstance(event, Resubscribe)]
    pauses = [later - earlier for earlier, later in pairwise(seconds)]
    assert pauses[:5] == [5, 10, 20, 40, 60]
    assert set(pauses[5:]) == {60}


@pytest.mark.parametrize(("exchange", "depth"), [(name, depth) for name in ALL for depth in EXCHANGES[name].depths])
def test_every_depth_that_is_offered_is_requested_and_kept(exchange: str, depth: int):
    feed = Feed(exchange, depth=depth)
    expected = depth or max(EXCHANGES[exchange].depths)
    asked = [feed.adapter.subscribe([feed.pair], 4).decode()]
    if isinstance(feed.adapter, StateSource):
        asked.append(str(feed.adapter.state_request(feed.pair, feed.now)))
    assert any(str(expected) in text for text in asked) or exchange in {"coinbase", "okx"}  # one channel, one depth
    feed = Feed(exchange, depth=depth)
    for _ in range(40):
        feed.step()
    sides = feed.read.bids, feed.read.asks
    assert all(len(side) <= expected for side in sides) or exchange in {"binance", "coinbase"}  # all that changes
    assert feed.last.verdict is (Verdict.UNVERIFIABLE if exchange == "coinbase" else Verdict.VERIFIED)
    if exchange != "binance":
        bids, asks = feed.book.levels(expected)
        assert (sorted(feed.read.bids.items(), reverse=True), sorted(feed.read.asks.items())) == (bids, asks)


def test_the_ingest_sets_the_adapter_as_the_feed_says():
    spec = {"exchange": "kraken", "symbols": ["BTC/USD"], "book": {"depth": 25, "snapshotInterval": "5s"}}
    head = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "kraken"}}
    feed = ExchangeFeed.from_body({**head, "spec": spec})
    made = adapter_factory(feed, BOOK)("")
    assert isinstance(made, BookAdapter)
    assert (made.depth, made.snapshot_interval) == (25, 5_000_000)
    adapter_factory(feed, TRADES)("")  # which takes no options


@pytest.mark.parametrize("exchange", ALL)
def test_snapshots_are_as_far_apart_as_the_feed_says(exchange: str):
    feed = Feed(exchange)
    made = adapter(exchange, BOOK, [feed.pair], snapshot_interval=1_000_000)
    assert isinstance(made, BookAdapter)
    feed.adapter, feed.events = made, []
    feed.client.books.clear()
    feed.request(made.subscribe([feed.pair], 1))
    feed.step(300)
    at = [record.ingestion_timestamp for record in records(feed.events) if record.kind is BookKind.SNAPSHOT]
    pauses = [later - earlier for earlier, later in pairwise(at)]
    assert len(pauses) >= 2
    assert min(pauses) >= 1_000_000
    assert max(pauses) < 2_000_000


def spoil_any(feed: Feed) -> str:
    """A frame with a negative quantity."""
    for frame in iter(lambda: feed.frames()[0], ""):
        if (spoiled := spoil(feed.exchange, frame)) != frame:
            return spoiled
    raise AssertionError


def test_okx_resets_its_numbers_without_a_gap():
    feed = Feed("okx")
    feed.step(3)
    before = feed.book.update
    feed.book.update = 100
    change = feed.move()
    frame = next(feed.side.book_frames(change))
    message = json.loads(frame)
    message["data"][0]["prevSeqId"] = before
    feed.receive(json.dumps(message))
    assert feed.last.verdict is Verdict.VERIFIED
    feed.step(3)
    assert feed.equals()
    assert feed.last.verdict is Verdict.VERIFIED


def test_bybit_begins_again_with_the_snapshot_of_a_restart():
    feed = Feed("bybit")
    feed.step(3)
    feed.book.moment = 1
    feed.request(feed.adapter.subscribe([feed.pair], 2))  # refused, as it is subscribed
    client = Client(protocol=feed.client.protocol)
    answers = feed.side.handle(feed.adapter.subscribe([feed.pair], 3).decode(), client, feed.history, 0.0)
    snapshot = next(str(answer) for answer in answers if '"snapshot"' in str(answer))
    assert json.loads(snapshot)["data"]["u"] == 1
    feed.receive(snapshot)
    feed.step(3)
    assert feed.last.verdict is Verdict.VERIFIED
    assert feed.equals()


def test_binance_gives_up_a_state_whose_ids_began_again():
    feed = Feed("binance")
    feed.step(5)
    feed.book.update = 1_000
    verdicts = set()
    for _ in range(400):
        for frame in feed.frames():
            feed.receive(frame)
        feed.now += 100_000
        verdicts.add(feed.last.verdict)
        if feed.last.verdict is Verdict.SUSPECT:
            break
    assert verdicts == {Verdict.UNVERIFIABLE, Verdict.SUSPECT}
    feed.now += 5_000_000
    feed.step(3)
    assert feed.equals()
    assert feed.last.verdict is Verdict.VERIFIED


def test_binance_requests_the_symbol_first_that_missed_most():
    pairs = [pair_of(EXCHANGES["binance"], name) for name in ("ETHUSDT", "BTCUSDT", "SOLUSDT")]
    book = adapter("binance", BOOK, pairs)
    assert isinstance(book, StateSource)
    assert book.lacking(RECEIVED) == []
    for name, levels in (("ETHUSDT", 1), ("BTCUSDT", 3)):
        data = {
            "e": "depthUpdate", "E": 1, "s": name, "U": 1, "u": 2, "b": [[str(n + 1), "1"] for n in range(levels)],
            "a": [],
        }  # fmt: skip
        book.parse(json.dumps({"stream": f"{name.lower()}@depth@100ms", "data": data}).encode(), RECEIVED)
    assert [pair.raw_symbol for pair in book.lacking(RECEIVED)] == ["BTCUSDT", "ETHUSDT"]
    request = book.state_request(pairs[1], RECEIVED)
    assert (request.path, dict(request.params), request.weight) == (
        "/api/v3/depth", {"symbol": "BTCUSDT", "limit": "5000"}, 250.0
    )  # fmt: skip
    assert [pair.raw_symbol for pair in book.lacking(RECEIVED)] == ["ETHUSDT"]
    answer = json.dumps({"lastUpdateId": 1, "bids": [["7", "2"]], "asks": []}).encode()
    (snapshot,) = records(book.parse_state(pairs[1], answer, RECEIVED))
    assert (snapshot.last_id, len(snapshot.bids), snapshot.verdict) == (2, 4, Verdict.VERIFIED)


def test_a_snapshot_of_binance_that_is_older_than_the_changes_is_requested_again():
    feed = Feed("binance")
    old = feed.side.rest("/api/v3/depth", {"symbol": "BTCUSDT"}, feed.history, feed.now).body
    feed.frames()
    for _ in range(3):
        feed.receive(feed.frames()[0])
    assert feed.adapter.lacking(feed.now) == [feed.pair]
    feed.adapter.state_request(feed.pair, feed.now)
    assert not feed.adapter.parse_state(feed.pair, old, feed.now)
    assert feed.adapter.lacking(feed.now) == []
    assert feed.adapter.lacking(feed.now + 1_000_000) == [feed.pair]
    feed.now += 1_000_000
    feed.heal()
    assert feed.read.whole
    assert feed.equals()
