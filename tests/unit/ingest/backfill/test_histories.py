"""Gaps against histories that lag, lie and fail: what is final, what is not, and ids that were never issued."""

import asyncio
from itertools import pairwise
from random import Random

import pytest
from msgspec.structs import replace

from k2.ingest.backfill.policy import Policy
from k2.ingest.backfill.rest import RestUnreachable
from k2.ingest.exchanges.base import RestRefused, SequencedRecord
from k2.schemas.records.trade import Trade
from k2.schemas.states import GapReason, GapState
from tests.unit.ingest.backfill.histories import FAULTS, SYMBOLS, Ingest, body, made, row, run, trade


def of_the_symbol(ingest: Ingest) -> bool:
    """Whether every record that was sent has its own price and time."""
    return all(record == trade_of(ingest, record) for record in ingest.log.records)


def trade_of(ingest: Ingest, record: Trade) -> Trade:
    """The trade with the id of a record, received and sent as that one."""
    true = trade(ingest.pair, int(record.record_id), ingest.label).record
    return replace(record, timestamp=true.timestamp, price=true.price)


EXCHANGES = pytest.mark.parametrize("exchange", SYMBOLS)
ALWAYS = 1e12


def last(ingest: Ingest):
    event = ingest.log.gaps[-1]
    return event.state, event.reason


@EXCHANGES
def test_an_id_that_both_neighbours_surround_twice_was_never_issued(exchange):
    async def main(loop):
        history = made(exchange, {number: 0.0 for number in range(1, 60) if number not in {20, 33}})
        ingest = Ingest(loop, history)
        ingest.receive(10)
        ingest.receive(50)
        began = loop.time()
        assert await ingest.until(lambda: ingest.closed, 3600)
        assert loop.time() - began >= 600
        assert (*last(ingest), ingest.missing) == (GapState.NEVER_ISSUED, "", {20, 33})
        assert ingest.stored == [number for number in range(10, 51) if number not in {20, 33}]
        keys = ingest.log.gaps[-1].evidence.split(",")
        assert set(keys) == set(ingest.log.evidence)
        for _, raw in ingest.log.evidence.values():
            assert b"19" in raw or b"32" in raw
        times = [received for _, received in ingest.log.answers]
        assert max(times) - min(times) >= 600_000_000  # both answers of each id, even if they are equal
        assert ingest.stats.gaps_never_issued[history.pair.symbol] == 1

    run(main)


@EXCHANGES
def test_a_verdict_is_revoked_by_the_id_that_comes_after_all(exchange):
    async def main(loop):
        history = made(exchange, {number: 0.0 for number in range(1, 60) if number not in {20, 21}})
        ingest = Ingest(loop, history)
        ingest.receive(15)
        ingest.receive(25)
        assert await ingest.until(lambda: ingest.closed, 3600)
        (gap,) = ingest.ledger._revocable
        finding = ingest.tracker.observe(ingest.pair, trade(ingest.pair, 20, ingest.label))
        assert (finding.closed, finding.revoked) == ((), (gap,))
        ingest.ledger.revoke(gap, ingest.tracker.unissued(gap))
        assert (*last(ingest), ingest.missing) == (GapState.NEVER_ISSUED, "", {21})
        finding = ingest.tracker.observe(ingest.pair, trade(ingest.pair, 21, ingest.label))
        assert (finding.closed, finding.revoked) == ((gap,), ())
        ingest.ledger.close(gap, GapState.REPAIRED, "late")
        event = ingest.log.gaps[-1]
        assert (event.state, event.resolution) == (GapState.REPAIRED, "late; it had been judged as never issued")
        assert set(event.evidence.split(",")) == set(ingest.log.evidence)

    run(main)


@EXCHANGES
def test_an_id_that_the_history_publishes_late_is_stored(exchange):
    async def main(loop):
        history = made(exchange, {number: 1400.0 if number == 20 else 0.0 for number in range(1, 60)})
        ingest = Ingest(loop, history)
        ingest.receive(15)
        ingest.receive(25)
        assert await ingest.until(lambda: ingest.closed, 3600)
        assert (*last(ingest), ingest.stored) == (GapState.REPAIRED, "", list(range(15, 26)))

    run(main)


@EXCHANGES
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_for_two_hours_leaves_the_gap_open_and_costs_nothing(exchange, fault):
    """Each fault in every answer: no verdict before it ends, all ids a minute later."""

    async def main(loop):
        history = made(exchange, dict.fromkeys(range(1, 60), 0.0), faults=(fault,), rate=1.0, faults_until=8000.0)
        ingest = Ingest(loop, history)
        ingest.receive(10)
        ingest.receive(58)
        assert await ingest.until(lambda: ingest.closed, 8000 + 700)
        assert (*last(ingest), ingest.stored) == (GapState.REPAIRED, "", list(range(10, 59)))
        assert of_the_symbol(ingest)

    run(main)


@EXCHANGES
def test_an_id_that_is_proved_does_not_hurry_the_requests_for_the_others(exchange):
    async def main(loop):
        history = made(exchange, {number: 5000.0 if number >= 40 else 0.0 for number in range(1, 60) if number != 20})
        ingest = Ingest(loop, history)
        ingest.receive(10)
        ingest.receive(50)
        assert await ingest.until(lambda: ingest.closed, 7200)
        assert (*last(ingest), ingest.missing) == (GapState.NEVER_ISSUED, "", {20})
        assert history.requests < 400  # for 20 and for 40 to 49, once or twice a minute

    run(main)


@pytest.mark.parametrize(
    "seeds",
    [range(part, 200, 4) for part in range(4)]
    + [pytest.param(range(200 + part, 1000, 8), marks=pytest.mark.slow) for part in range(8)],
    ids=str,
)
def test_a_thousand_histories_never_give_up_an_id_that_was_issued(seeds):
    """Faults of all kinds, phantom ids, ids that are published late. The first 200 seeds are not marked slow."""
    for seed in seeds:
        run(lambda loop, seed=seed: _judge(loop, seed))


async def _judge(loop, seed: int) -> None:
    random = Random(seed)
    exchange = random.choice(sorted(SYMBOLS))
    issued = {
        number: random.uniform(0, 2500) if random.random() < 0.03 else 0.0
        for number in range(1, 120)
        if random.random() > 0.04
    }
    faults = tuple(random.sample(FAULTS, random.randrange(1, len(FAULTS))))
    history = made(
        exchange, issued, seed, faults=faults, rate=random.choice([0.2, 0.5, 0.9]), faults_until=4000.0,
        limit=random.choice([5, 20, 100]),
    )  # fmt: skip
    ingest = Ingest(loop, history)
    received = sorted(number for number in issued if issued[number] == 0.0 and random.random() < 0.5)
    for number in received:
        ingest.receive(number)
    assert await ingest.until(lambda: ingest.closed, 12_000), f"seed {seed}: open"
    between = {number for number in issued if received[0] <= number <= received[-1]}
    states = {event.state for event in ingest.log.gaps}
    late = {number for number in between if issued[number] > 0}
    assert states <= {GapState.OPEN, GapState.REPAIRED, GapState.NEVER_ISSUED}, f"seed {seed}: {states}"
    assert not (ingest.missing - late) & between, f"seed {seed}: judged as never issued, and issued"
    assert between - late <= set(ingest.stored), f"seed {seed}: not stored"
    assert len(set(ingest.stored)) == len(ingest.stored), f"seed {seed}: twice"
    prices = {int(record.record_id): record.price // 10**12 for record in ingest.log.records}
    assert all(price == 1000 + number for number, price in prices.items()), f"seed {seed}: of another symbol"


def test_a_history_that_begins_after_the_gap_is_believed_after_ten_minutes():
    async def main(loop):
        ingest = Ingest(loop, made("binance", dict.fromkeys(range(1, 200), 0.0), floor=60))
        ingest.receive(10)
        ingest.receive(100)
        began = loop.time()
        assert await ingest.until(lambda: ingest.closed, 3600)
        assert loop.time() - began >= 600
        event = ingest.log.gaps[-1]
        assert (*last(ingest), event.missing) == (GapState.UNRECOVERABLE, GapReason.OUT_OF_HISTORY, ((11, 59),))
        assert event.resolution == "rest: 49 ids are not in the exchange's history"
        assert event.rules == "r"
        assert ingest.stored == [10, *range(60, 101)]
        assert event.evidence

    run(main)


def lie_once(history, rows, when, price=1000, late=0) -> list[dict]:
    """Let a history answer once with rows of another symbol, to the first request whose parameters `when` takes."""
    answer, lied = history._page, []

    def page(request, fault, now):
        if lied or not when(request.params):
            return answer(request, fault, now)
        lied.append(request.params)
        entries = [row("binance", history.pair, number, price) for number in rows]
        return body("binance", [entry | {"time": entry["time"] + late} for entry in entries], 0)

    history._page = page
    return lied


@pytest.mark.parametrize("rows", [(30, 31, 32, 33), (48, 51, 52)])
def test_a_page_of_another_symbol_that_begins_within_the_gap_is_not_believed(rows):
    """As of a history that no longer has the first ids. Its second row, or the only one of the gap, is asked for."""

    async def main(loop):
        history = made("binance", dict.fromkeys(range(1, 60), 0.0))
        lied = lie_once(history, rows, dict, price=7000)
        ingest = Ingest(loop, history)
        ingest.receive(10)
        ingest.receive(50)
        assert await ingest.until(lambda: ingest.closed, 3600)
        assert (len(lied), *last(ingest), ingest.stored) == (1, GapState.REPAIRED, "", list(range(10, 51)))
        assert of_the_symbol(ingest)

    run(main)


@pytest.mark.parametrize("rows", [range(29, 49), range(30, 50)])
@pytest.mark.parametrize("changes", [{"price": 7000}, {"late": 5000}])
def test_a_next_page_of_another_symbol_is_not_believed(rows, changes):
    """It repeats the last row of the page before it: neither its content nor its absence may differ."""

    async def main(loop):
        history = made("binance", dict.fromkeys(range(1, 60), 0.0))
        lied = lie_once(history, rows, lambda params: params["fromId"] in {"29", "30"}, **changes)
        ingest = Ingest(loop, history)
        ingest.receive(10)
        ingest.receive(58)
        assert await ingest.until(lambda: ingest.closed, 3600)
        assert (len(lied), *last(ingest), ingest.stored) == (1, GapState.REPAIRED, "", list(range(10, 59)))
        assert of_the_symbol(ingest)

    run(main)


@pytest.mark.parametrize("first", ["10", "30"])
def test_a_gap_behind_another_is_not_filled_with_rows_of_another_symbol(first):
    """The exchange names its newest id twice: what lies between has no neighbour whose content is known."""

    async def main(loop):
        history = made("binance", dict.fromkeys(range(1, 60), 0.0))
        lied = lie_once(history, range(30, 50), lambda params: params["fromId"] == first, price=7000)
        ingest = Ingest(loop, history)
        ingest.receive(10)
        for newest in (30, 50):
            await ingest.ledger.open(ingest.tracker.observe_head(ingest.pair.symbol, newest, ingest.now()).gap)
        assert await ingest.until(lambda: ingest.closed, 3600)
        assert sorted(set(ingest.stored)) == list(range(10, 51))
        assert of_the_symbol(ingest)
        assert bool(lied) == (first == "10")  # what cannot be recognised is not requested

    run(main)


@EXCHANGES
@pytest.mark.parametrize("limit", [5, 100])
@pytest.mark.parametrize("received", [[10, -50, 51], [9, 10, -11, 50], [10, -30, 50], [10, -11, -12, 40, -41, 43, 44]])
def test_a_trade_that_arrived_with_another_content_than_the_history_has_does_not_hinder_repair(
    exchange, limit, received
):
    """Negative ids are those. True pages differ from them, and no others are believed for that."""

    async def main(loop):
        history = made(exchange, dict.fromkeys(range(1, 60), 0.0), limit=limit)
        if exchange == "binance":
            lie_once(history, range(20, 40), dict, price=7000)
        ingest = Ingest(loop, history)
        for number in received:
            item = trade(ingest.pair, abs(number), ingest.label)
            wrong = replace(item.record, price=item.record.price - 1)
            ingest.take(item if number > 0 else SequencedRecord(wrong, -number, -number))
        assert await ingest.until(lambda: ingest.closed, 3600)
        assert ingest.stored == list(range(received[0], received[-1] + 1))
        assert {int(record.record_id) for record in ingest.log.records if record.price % 10**12} == {
            -number for number in received if number < 0
        }
        assert {error for _, error, _ in ingest.log.dead_letters} == {"ID_CONFLICT"}

    run(main)


def test_a_newest_id_without_a_later_trade_is_repaired_by_pages_that_reach_what_arrived():
    async def main(loop):
        history = made("coinbase", dict.fromkeys(range(1, 26), 0.0))
        answer, lies = history._page, [range(15, 23)]

        def page(request, fault, now):
            if not lies:
                return answer(request, fault, now)
            return body("coinbase", [row("coinbase", history.pair, number, 7000) for number in reversed(lies.pop())], 0)

        history._page = page
        ingest = Ingest(loop, history)
        ingest.receive(10)
        await ingest.ledger.open(ingest.tracker.observe_head(ingest.pair.symbol, 25, ingest.now()).gap)
        assert await ingest.until(lambda: ingest.closed, 3600)
        assert (lies, ingest.stored) == ([], list(range(10, 26)))
        assert of_the_symbol(ingest)

    run(main)


def test_many_ids_that_were_never_issued_are_requested_together():
    async def main(loop):
        history = made("binance", dict.fromkeys(range(1, 300, 2), 0.0), limit=100)
        ingest = Ingest(loop, history)
        ingest.receive(11)
        ingest.receive(251)
        assert await ingest.until(lambda: ingest.closed, 3600)
        assert (*last(ingest), ingest.missing) == (GapState.NEVER_ISSUED, "", set(range(12, 251, 2)))
        assert history.requests < 200

    run(main)


def test_a_neighbour_whose_time_the_history_rounds_down_is_found():
    async def main(loop):
        history = made("kraken", {number: 0.0 for number in range(1, 60) if number != 20})
        ingest = Ingest(loop, history)
        for number in (10, 50):
            item = trade(ingest.pair, number, ingest.label)
            ingest.take(SequencedRecord(replace(item.record, timestamp=item.record.timestamp + 900), number, number))
        assert await ingest.until(lambda: ingest.closed, 3600)
        assert (*last(ingest), ingest.missing) == (GapState.NEVER_ISSUED, "", {20})

    run(main)


def test_a_page_of_another_symbol_does_not_discredit_the_true_ones_after_it():
    async def main(loop):
        history = made("binance", {number: 0.0 for number in range(1, 60) if number != 20})
        ingest = Ingest(loop, history)
        ingest.receive(10)
        ingest.receive(50)
        # Once it has nothing after 19, or so it says; if asked for what follows, it answers of another symbol.
        lies = []
        loop.call_later(20, lambda: lies.append(lie_once(history, (19,), lambda params: params["fromId"] == "19")))
        loop.call_later(
            20, lambda: lies.append(lie_once(history, (21,), lambda params: params["fromId"] == "20", 7000))
        )
        assert await ingest.until(lambda: ingest.closed, 3600)
        assert (*last(ingest), ingest.missing) == (GapState.NEVER_ISSUED, "", {20})
        assert [len(requests) for requests in lies] == [1, 0]

    run(main)


def test_a_gap_older_than_a_limited_history_is_given_up_once_it_was_asked_for():
    async def main(loop):
        history = made("okx", dict.fromkeys(range(1, 200), 0.0), floor=150)
        ingest = Ingest(loop, history, Policy(enabled=True, max_age=ALWAYS), age=100 * 86_400.0)
        ingest.receive(10)
        ingest.receive(20)
        assert await ingest.until(lambda: ingest.closed, 60)
        assert (*last(ingest), history.requests) == (GapState.UNRECOVERABLE, GapReason.OUT_OF_HISTORY, 1)

    run(main)


def test_one_failing_gap_holds_up_no_other():
    async def main(loop):
        history = made("coinbase", dict.fromkeys(range(1, 200), 0.0))
        answer = history.fetch_once

        async def failing(request, read):
            if int(request.params["after"]) <= 61:
                await asyncio.sleep(20)
                raise RestRefused("HTTP 404: NotFound")
            return await answer(request, read)

        history.fetch_once = failing
        ingest = Ingest(loop, history)
        for number in (10, *range(50, 150, 10)):
            ingest.receive(number)
        assert await ingest.until(lambda: ingest.stats.gaps_open == 2, 3)
        assert ingest.stored == [10, 50, *range(60, 141)]

    run(main)


def test_retry_after_is_kept_and_attempts_grow_apart():
    async def main(loop):
        times = []

        async def refusing(request, read):
            times.append(loop.time())
            raise RestRefused("HTTP 503", retry_after=90.0 if len(times) == 1 else None)

        history = made("binance", dict.fromkeys(range(1, 60), 0.0))
        history.fetch_once = refusing
        ingest = Ingest(loop, history)
        ingest.receive(10)
        ingest.receive(20)
        assert not await ingest.until(lambda: ingest.closed, 4 * 3600)
        pauses = [after - before for before, after in pairwise(times)]
        assert pauses[0] >= 90
        assert all(pause <= 60 for pause in pauses[1:55])
        assert max(pauses[60:]) > 300
        assert max(pauses[60:]) <= 600

    run(main)


def test_a_history_that_answers_with_interruptions_is_not_asked_ever_more_rarely():
    async def main(loop):
        history = made("binance", dict.fromkeys(range(1, 200), 0.0), limit=5)
        answer = history.fetch_once

        async def failing(request, read):
            if history.requests % 2:
                history.requests += 1
                raise RestUnreachable("connection reset")
            return await answer(request, read)

        history.fetch_once = failing
        ingest = Ingest(loop, history)
        ingest.receive(10)
        ingest.receive(190)
        assert await ingest.until(lambda: ingest.closed, 300)
        assert ingest.stored == list(range(10, 191))

    run(main)


def test_a_gap_that_becomes_too_old_is_given_up_with_that_reason():
    async def main(loop):
        history = made("kraken", dict.fromkeys(range(1, 60), 0.0), faults=("down",), rate=1.0, faults_until=ALWAYS)
        ingest = Ingest(loop, history, Policy(enabled=True, max_age=7200.0))
        ingest.receive(10)
        ingest.receive(20)
        assert await ingest.until(lambda: ingest.closed, 2 * 7200)
        assert last(ingest) == (GapState.UNRECOVERABLE, GapReason.MAX_AGE)
        assert ingest.log.gaps[-1].missing == ((11, 19),)

    run(main)


def test_a_bad_row_costs_only_itself():
    async def main(loop):
        history = made("okx", dict.fromkeys(range(1, 60), 0.0))
        answer = history._page
        history._page = lambda *given: answer(*given).replace(b'"1015"', b'"NaN"').replace(b'"1017"', b"null")
        ingest = Ingest(loop, history)
        ingest.receive(10)
        ingest.receive(20)
        assert await ingest.until(lambda: ingest.closed, 600)
        event = ingest.log.gaps[-1]
        assert (event.state, event.resolution) == (GapState.REPAIRED, "rest; 2 ids are dead letters")
        assert ingest.stored == [number for number in range(10, 21) if number not in {15, 17}]
        assert len(ingest.log.dead_letters) == 1
        assert history.requests >= 4

    run(main)
