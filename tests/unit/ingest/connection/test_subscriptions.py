"""The subscriptions of one connection, as a state machine: clocks and answers are given."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.ingest.connection.subscriptions import ANSWER_WITHIN, Operation, Subscriptions
from k2.ingest.exchanges.base import Limits, Refusal
from k2.schemas.states import SymbolState

LIVE = {SymbolState.ACKNOWLEDGED, SymbolState.FLOWING}
LIMITS = Limits(subscribe_interval=0.5, symbols_per_message=4)


def encode(operation: Operation, raw_symbols: Sequence[str], number: int) -> bytes:
    return json.dumps([operation.value, list(raw_symbols), number]).encode()


def made(*raw_symbols: str, limits: Limits = LIMITS) -> Subscriptions:
    subscriptions = Subscriptions(limits, encode)
    subscriptions.want(raw_symbols)
    return subscriptions


def sent(subscriptions: Subscriptions, now: float = 0.0) -> tuple[str, list[str], int] | None:
    message = subscriptions.next_request(now)
    return tuple(json.loads(message)) if message else None


def states(subscriptions: Subscriptions) -> dict[str, str]:
    return {raw_symbol: subscriptions.state(raw_symbol).value for raw_symbol in subscriptions}


def refuse(
    subscriptions: Subscriptions, reason: str, *named: str, number: int = 0, kind: Refusal = Refusal.SYMBOL,
    now: float = 0.0, whole: bool = True,
) -> tuple[str, ...]:  # fmt: skip
    return subscriptions.refused(reason, named, number, kind, now, whole=whole)


def test_a_symbol_is_sent_then_acknowledged_then_flows():
    subscriptions = made("A")
    assert states(subscriptions) == {"A": "wanted"}
    assert sent(subscriptions) == ("subscribe", ["A"], 1)
    assert states(subscriptions) == {"A": "sent"}
    subscriptions.acknowledged((), 1)
    assert states(subscriptions) == {"A": "acknowledged"}
    subscriptions.flowing("A")
    assert states(subscriptions) == {"A": "flowing"}
    assert sent(subscriptions, 1e6) is None


def test_requests_keep_the_exchanges_interval_and_number_of_symbols():
    subscriptions = made(*"ABCDE")
    assert sent(subscriptions, 0.0) == ("subscribe", list("ABCD"), 1)
    assert sent(subscriptions, 0.49) is None
    assert sent(subscriptions, 0.5) == ("subscribe", ["E"], 2)


def test_a_request_never_has_more_bytes_than_the_exchange_reads():
    subscriptions = made(
        *"ABCD", limits=Limits(symbols_per_message=4, message_bytes=len(encode(Operation.SUBSCRIBE, "AB", 1)))
    )
    assert [sent(subscriptions, now) for now in range(2)] == [
        ("subscribe", ["A", "B"], 1),
        ("subscribe", ["C", "D"], 2),
    ]


def test_no_more_requests_than_permitted_are_sent_in_an_hour():
    subscriptions = made(*"ABC", limits=Limits(symbols_per_message=1, requests_per_hour=2))
    assert [sent(subscriptions, now) is not None for now in (0, 10, 20, 3599, 3601)] == [True, True, False, False, True]


def test_where_answers_carry_no_number_one_request_waits_for_the_other():
    subscriptions = made(*"AB", limits=Limits(symbols_per_message=1, unanswered_requests=1))
    assert sent(subscriptions, 0) == ("subscribe", ["A"], 1)
    assert sent(subscriptions, 5) is None
    subscriptions.acknowledged(("A",), 0)
    assert sent(subscriptions, 5) == ("subscribe", ["B"], 2)


def test_an_overdue_request_permits_the_next_one_when_it_is_ended_and_is_not_polled_until_then():
    subscriptions = made(*"AB", limits=Limits(symbols_per_message=1, unanswered_requests=1))
    sent(subscriptions, 0)
    assert subscriptions.send_at(5) == ANSWER_WITHIN
    assert subscriptions.send_at(ANSWER_WITHIN) == math.inf
    subscriptions.expire(ANSWER_WITHIN)
    assert sent(subscriptions, ANSWER_WITHIN) == ("subscribe", ["B"], 2)


def test_a_batch_that_is_refused_for_a_named_symbol_is_sent_again_without_it():
    subscriptions = made(*"ABCD")
    sent(subscriptions)
    assert refuse(subscriptions, "no B", "B", number=1) == ("B",)
    assert (states(subscriptions)["B"], subscriptions.reason("B")) == ("refused", "no B")
    assert sent(subscriptions, 1) == ("subscribe", ["A", "C", "D"], 2)


def test_a_batch_that_is_refused_without_a_name_is_halved_until_the_bad_symbol_is_alone():
    subscriptions, requests, now = made(*"ABCD"), [], 0.0
    while (request := sent(subscriptions, now)) is not None:
        requests.append(request[1])
        if "C" in request[1]:
            refuse(subscriptions, "no", number=request[2])
        else:
            subscriptions.acknowledged((), request[2])
        now += 1
    assert requests == [list("ABCD"), ["A", "B"], ["C", "D"], ["C"], ["D"]]
    assert states(subscriptions) == {"A": "acknowledged", "B": "acknowledged", "C": "refused", "D": "acknowledged"}


def test_a_refusal_for_a_symbol_that_another_answer_settled_blames_no_neighbour():
    subscriptions = made("A", "C", "BAD", "B")
    assert sent(subscriptions) == ("subscribe", ["A", "C", "BAD", "B"], 1)
    subscriptions.expire(ANSWER_WITHIN)
    assert sent(subscriptions, 20.0) == ("subscribe", ["A", "C"], 2)
    assert sent(subscriptions, 21.0) == ("subscribe", ["BAD", "B"], 3)
    assert refuse(subscriptions, "BAD is invalid", "BAD", number=1) == ("BAD",)  # late
    assert refuse(subscriptions, "BAD is invalid", "BAD", number=3) == ()
    assert states(subscriptions) == {"A": "sent", "C": "sent", "BAD": "refused", "B": "wanted"}
    assert sent(subscriptions, 22.0) == ("subscribe", ["B"], 4)


def test_a_refusal_of_one_symbol_of_several_leaves_the_others_to_their_own_answers():
    subscriptions = made(*"ABC")
    sent(subscriptions)
    refuse(subscriptions, "no B", "B", number=1, whole=False)
    assert states(subscriptions) == {"A": "sent", "B": "refused", "C": "sent"}


def test_already_subscribed_is_no_refusal_of_the_symbol():
    subscriptions = made(*"AB")
    sent(subscriptions)
    assert refuse(subscriptions, "already", "A", number=1, kind=Refusal.SUBSCRIBED) == ()
    assert states(subscriptions) == {"A": "acknowledged", "B": "wanted"}
    assert sent(subscriptions, 1) == ("subscribe", ["B"], 2)


def test_a_busy_exchange_is_asked_again_later_and_slower():
    subscriptions, waits, now = made("A"), [], 0.0
    for number in range(1, 5):
        assert sent(subscriptions, now) == ("subscribe", ["A"], number)
        assert refuse(subscriptions, "Exceeded msg rate", number=number, kind=Refusal.BUSY, now=now) == ()
        waits.append(subscriptions.send_at(now) - now)
        now += waits[-1]
    assert waits == [1, 2, 4, 8]
    assert states(subscriptions) == {"A": "wanted"}


def test_a_request_with_too_many_arguments_is_made_smaller():
    subscriptions = made(*"ABCD")
    sent(subscriptions)
    refuse(subscriptions, "args size >2", number=1, kind=Refusal.CAPACITY)
    assert [sent(subscriptions, now) for now in (1, 2)] == [("subscribe", ["A", "B"], 2), ("subscribe", ["C", "D"], 3)]
    assert not subscriptions.crowded


def test_a_connection_is_full_when_it_takes_not_even_one_more():
    subscriptions = made("A")
    sent(subscriptions)
    refuse(subscriptions, "args length", number=1, kind=Refusal.CAPACITY)
    assert subscriptions.crowded
    assert states(subscriptions) == {"A": "unanswered"}


def test_what_is_not_answered_is_sent_again_in_halves_and_the_good_ones_flow():
    subscriptions, now, requests = made(*"ABCD"), 0.0, []
    sent(subscriptions, now)
    for _ in range(4):
        now += ANSWER_WITHIN
        subscriptions.expire(now)
        for _ in range(3):
            now += 1
            if (request := sent(subscriptions, now)) is None:
                continue
            requests.append(request[1])
            if "B" not in request[1]:
                subscriptions.acknowledged((), request[2])
    assert requests[:4] == [["A", "B"], ["C", "D"], ["A"], ["B"]]
    assert states(subscriptions) == {"A": "acknowledged", "B": "unanswered", "C": "acknowledged", "D": "acknowledged"}
    assert subscriptions.stubborn == {"B"}
    assert not subscriptions.dead


def test_a_connection_that_answers_nothing_at_all_is_dead():
    subscriptions = made("A")
    for now in (0, ANSWER_WITHIN):
        assert not subscriptions.dead
        sent(subscriptions, now)
        subscriptions.expire(now + ANSWER_WITHIN)
    assert subscriptions.dead


def test_a_late_answer_still_counts():
    subscriptions = made(*"AB")
    sent(subscriptions)
    subscriptions.expire(ANSWER_WITHIN)
    assert set(states(subscriptions).values()) == {"unanswered"}
    subscriptions.acknowledged((), 1)
    assert set(states(subscriptions).values()) == {"acknowledged"}
    assert sent(subscriptions, 60) is None


@pytest.mark.parametrize("kind", [Refusal.CAPACITY, Refusal.SYMBOL])
def test_refusals_that_always_come_late_count_all_the_same(kind):
    """Without a name, only the number of a request says whom they mean, and another request was sent since."""
    subscriptions, now, refused = made(*"AB"), 0.0, ()
    for _ in range(6):
        if (request := sent(subscriptions, now)) is not None:
            subscriptions.expire(now := now + ANSWER_WITHIN)
            if request[1] == ["A"]:
                subscriptions.acknowledged((), request[2])
            else:
                refused += refuse(subscriptions, "no", number=request[2], kind=kind, now=now)
        now += 1
    assert subscriptions.state("A") is SymbolState.ACKNOWLEDGED
    assert subscriptions.reason("B") == "no"
    assert (subscriptions.crowded, refused) == ((True, ()) if kind is Refusal.CAPACITY else (False, ("B",)))


def test_data_is_an_answer():
    subscriptions = made("A")
    sent(subscriptions)
    subscriptions.flowing("A")
    subscriptions.expire(1e6)
    assert states(subscriptions) == {"A": "flowing"}


def test_a_renewed_symbol_is_unsubscribed_first():
    subscriptions = made("A")
    sent(subscriptions)
    subscriptions.acknowledged((), 1)
    subscriptions.renew(["A"])
    assert sent(subscriptions, 1) == ("unsubscribe", ["A"], 2)
    subscriptions.flowing("A")  # what is still on its way
    assert sent(subscriptions, 2) is None
    subscriptions.unsubscribed((), 2)
    assert sent(subscriptions, 2) == ("subscribe", ["A"], 3)
    subscriptions.acknowledged((), 3)
    assert states(subscriptions) == {"A": "acknowledged"}


@pytest.mark.parametrize("answer", ["none", "refused", "listed"])
def test_a_renewed_symbol_is_subscribed_again_whatever_the_answer_to_the_end_was(answer):
    subscriptions = made("A")
    sent(subscriptions)
    subscriptions.acknowledged((), 1)
    subscriptions.renew(["A"])
    assert sent(subscriptions, 1)[0] == "unsubscribe"
    match answer:
        case "none":
            subscriptions.expire(1 + ANSWER_WITHIN)
        case "refused":
            assert refuse(subscriptions, "Subscription Not Found", "A", number=2) == ()
        case "listed":
            subscriptions.acknowledged((), 0)
    assert sent(subscriptions, 20) == ("subscribe", ["A"], 3)


def test_a_symbol_that_is_dropped_is_unsubscribed_and_forgotten():
    subscriptions = made(*"ABC")
    sent(subscriptions)
    subscriptions.acknowledged((), 1)
    subscriptions.drop(["B"])
    assert list(subscriptions) == ["A", "C"]
    assert sent(subscriptions, 1) == ("unsubscribe", ["B"], 2)
    subscriptions.unsubscribed(("B",), 2)
    assert sent(subscriptions, 100) is None
    subscriptions.want(["B"])
    assert sent(subscriptions, 101) == ("subscribe", ["B"], 3)


def test_a_symbol_that_was_never_sent_needs_no_end():
    subscriptions = made("A")
    subscriptions.drop(["A"])
    assert sent(subscriptions, 1) is None


def test_a_subscription_that_the_exchange_ends_is_begun_again():
    subscriptions = made("A")
    sent(subscriptions)
    subscriptions.acknowledged((), 1)
    subscriptions.unsubscribed(("A",), 0)
    assert sent(subscriptions, 1) == ("subscribe", ["A"], 2)


def test_rest_does_not_disprove_what_flows():
    subscriptions = made(*"AB")
    sent(subscriptions)
    subscriptions.flowing("A")
    assert subscriptions.refuse("AB", "Invalid symbol.") == ("B",)
    assert states(subscriptions) == {"A": "flowing", "B": "refused"}


def test_a_refusal_that_belongs_to_nothing_is_counted_and_changes_nothing():
    subscriptions = made(*"ABCDE")
    sent(subscriptions, 0)
    sent(subscriptions, 1)
    assert refuse(subscriptions, "Malformed JSON") == ()
    assert subscriptions.strays == 1
    assert set(states(subscriptions).values()) == {"sent"}


@dataclass
class Exchange:
    """An exchange that answers in an order of its own, with some symbols bad, and some answers lost."""

    data: st.DataObject
    bad: set[str]
    names: bool  # refusals name the symbol
    numbers: bool  # answers carry the request's number
    each: bool  # each symbol is answered alone
    subscribed: set[str] = field(default_factory=set)
    pending: list[tuple] = field(default_factory=list)

    def receive(self, message: bytes) -> None:
        operation, symbols, number = json.loads(message)
        number = number if self.numbers else 0
        if operation == "unsubscribe":
            self.subscribed -= set(symbols)
            self.pending.append(("left", tuple(symbols), number))
            return
        for batch in [(symbol,) for symbol in symbols] if self.each else [tuple(symbols)]:
            bad = tuple(symbol for symbol in batch if symbol in self.bad)[:1]
            if bad:
                self.pending.append(("refused", bad if self.names else (), number))
            else:
                self.subscribed |= set(batch)
                self.pending.append(("acknowledged", batch if self.each or not self.numbers else (), number))

    def answer(self, subscriptions: Subscriptions, now: float, *, lose: bool) -> None:
        if not self.pending:
            return
        place = self.data.draw(st.integers(0, len(self.pending) - 1)) if self.numbers and not lose else 0
        kind, symbols, number = self.pending.pop(place)
        if lose:
            return
        match kind:
            case "refused":
                subscriptions.refused("no", symbols, number, Refusal.SYMBOL, now, whole=not self.each)
            case "left":
                subscriptions.unsubscribed(symbols, number)
            case _:
                subscriptions.acknowledged(symbols, number)


def step(exchange: Exchange, subscriptions: Subscriptions, now: float, *, lose: bool = False) -> None:
    """One request, one answer, and the clock."""
    if (message := subscriptions.next_request(now)) is not None:
        exchange.receive(message)
    exchange.answer(subscriptions, now, lose=lose)
    subscriptions.expire(now)
    assert not {symbol for symbol, state in states(subscriptions).items() if state in LIVE} & exchange.bad


@given(
    data=st.data(),
    size=st.integers(1, 12),
    names=st.booleans(),
    numbers=st.booleans(),
    each=st.booleans(),
)
def test_whatever_happens_no_good_symbol_stays_unsubscribed_because_of_a_bad_one(data, size, names, numbers, each):
    symbols = [f"S{number}" for number in range(size)]
    bad = set(data.draw(st.lists(st.sampled_from(symbols), max_size=3)))
    exchange = Exchange(data, bad, names or (each and not numbers), numbers, each)
    limits = Limits(subscribe_interval=0.5, symbols_per_message=4, unanswered_requests=8 if numbers else 1)
    subscriptions, now = made(*symbols, limits=limits), 0.0

    for action in data.draw(st.lists(st.sampled_from(["step", "lose", "wait", "busy", "renew"]), max_size=25)):
        now += 0.5
        match action:
            case "step" | "lose":
                step(exchange, subscriptions, now, lose=action == "lose")
            case "wait":
                now += ANSWER_WITHIN
                step(exchange, subscriptions, now)
            case "busy":
                subscriptions.refused("busy", (), 0, Refusal.BUSY, now, whole=True)
            case "renew":
                subscriptions.renew([data.draw(st.sampled_from(symbols))])
    for _ in range(4000):  # from here on every request is answered
        now += 2.0
        step(exchange, subscriptions, now)
        if subscriptions.settled and not exchange.pending and now > 1e3:
            break
    good = set(symbols) - bad
    assert {symbol for symbol in good if subscriptions.state(symbol) not in LIVE} == set()
    assert good <= exchange.subscribed
    assert all(subscriptions.state(symbol) is SymbolState.REFUSED for symbol in bad)
