"""Faults that the ingest once had, each put back into the present code: a history must show it."""

from dataclasses import replace

import msgspec
import pytest

from k2.ingest.backfill import absence
from k2.ingest.backfill.policy import Policy
from k2.ingest.connection.connection import Connection
from k2.ingest.connection.liveness import Backoff
from k2.ingest.connection.session import Session
from k2.ingest.connection.silence import Silence
from k2.ingest.connection.subscriptions import Subscriptions
from k2.ingest.exchanges.answers import RestAnswers
from k2.ingest.exchanges.base import MalformedFrame, Refusal, RestRefused
from k2.ingest.exchanges.bybit.parse import Bybit
from k2.ingest.exchanges.okx import control, messages, parse, rest
from k2.ingest.kafka import resume
from k2.ingest.kafka.watchdog import Watchdog
from k2.schemas.states import GapReason
from tests.simulation.world import simulate

pytestmark = pytest.mark.slow

ANY = range(300)
KRAKEN, OKX, BYBIT = (range(first, 1500, 5) for first in (1, 3, 4))


def a_refused_batch_refuses_all(patches):
    honest = Subscriptions.refused

    def refused(self, reason, raw_symbols, number, kind, now, *, whole):
        waiting = self._waiting(self._find(number))
        if kind is Refusal.SYMBOL and whole and waiting:
            return self._settle(reason, waiting, kind)
        return honest(self, reason, raw_symbols, number, kind, now, whole=whole)

    patches.setattr(Subscriptions, "refused", refused)


def what_is_not_answered_is_never_sent_again(patches):
    patches.setattr(Subscriptions, "expire", lambda *_: False)
    patches.setattr(Subscriptions, "dead", False)


def names_are_found_within_others(patches):
    patches.setattr(control, "named", lambda text, symbols: tuple(name for name in symbols if name in text))


def silence_is_judged_per_connection(patches):
    patches.setattr(Silence, "ask", lambda *_: False)


def any_rest_error_is_final(patches):
    def check(self, body, status=200, retry_after=None):
        if status != 200 or self.read_error(body) is not None:
            raise RestRefused(f"HTTP {status}", reason=GapReason.BAD_REQUEST)

    patches.setattr(RestAnswers, "check", check)


def gaps_are_given_up_by_their_time(patches):
    honest = Policy.exclusion

    def exclusion(self, gap, now):
        if gap.until - gap.since > 20e6:
            return GapReason.MAX_AGE, "longer than maxGap"
        return honest(self, gap, now)

    patches.setattr(Policy, "exclusion", exclusion)


def the_first_reconnect_waits(patches):
    honest = Backoff.next_delay
    patches.setattr(Backoff, "next_delay", lambda self, **_: honest(self, at_once=False))


class Anything:
    def __contains__(self, item):
        return True


def okx_sends_aggregates(patches):
    class Frame(msgspec.Struct):
        arg: dict[str, str]
        data: list[messages.TradeItem]

    patches.setattr(control, "CHANNEL", "trades")
    patches.setattr(parse, "FRAME", msgspec.json.Decoder(Frame))
    patches.setattr(rest, "_ONE_FILL", Anything())


def one_bad_item_drops_its_frame(patches):
    def drop(self, frame, received):
        try:
            return self.control(frame)
        except MalformedFrame as error:
            raise MalformedFrame("bad item") from error

    patches.setattr(Bybit, "_one_by_one", drop)


def announcements_are_ignored(patches):
    patches.setattr(Connection, "closing", lambda *_: None)


def resume_reads_what_other_protocols_wrote(patches):
    patches.setattr(resume.Protocol, "wrote", lambda *_: True)
    patches.setattr(resume, "of_protocol", lambda *_, **__: True)


def a_producer_that_hangs_is_never_replaced(patches):
    patches.setattr(Watchdog, "observe", lambda *_: False)


def resume_looks_in_one_partition(patches):
    patches.setattr(resume, "_earlier_partitions", lambda *_: set())


def one_answer_proves_an_id_never_issued(patches):
    patches.setattr(absence, "APART", 0.0)


def a_symbol_that_comes_back_leaves_no_window(patches):
    honest = Connection.__init__

    def init(self, *arguments, **options):
        honest(self, *arguments, **options | {"on_subscribe": lambda _: None})

    patches.setattr(Connection, "__init__", init)


def what_was_traded_before_a_symbol_came_back_is_taken_for_silence(patches):
    honest = Session._compare

    def compare(self, raw_symbol, newest):
        self._added.clear()
        return honest(self, raw_symbol, newest)

    patches.setattr(Session, "_compare", compare)


def windows_are_decided_by_times(patches):
    honest = Bybit.parse_page

    def parse_page(self, request, body, gap, received):
        page = honest(self, request, body, gap, received)
        inside = [item for item in page.records if gap.since <= item.record.timestamp <= gap.until]
        return replace(page, records=inside)

    patches.setattr(Bybit, "parse_page", parse_page)


REINTRODUCED = [
    (a_refused_batch_refuses_all, ANY, "never refused it"),
    (what_is_not_answered_is_never_sent_again, ANY, "not flow"),
    (names_are_found_within_others, OKX, "never refused it"),
    (silence_is_judged_per_connection, ANY, "not flow"),
    (any_rest_error_is_final, ANY, "unrecoverable"),
    (gaps_are_given_up_by_their_time, ANY, "unrecoverable"),
    (the_first_reconnect_waits, ANY, "more than a second"),
    (okx_sends_aggregates, OKX, "another content"),
    (one_bad_item_drops_its_frame, BYBIT, "not in the log"),
    (announcements_are_ignored, ANY, "announced cut"),
    (resume_reads_what_other_protocols_wrote, KRAKEN, ""),
    (a_producer_that_hangs_is_never_replaced, ANY, "not in the log"),
    (resume_looks_in_one_partition, ANY, "neither in the log nor in a gap"),
    (one_answer_proves_an_id_never_issued, ANY, "never issued, but emitted"),
    (a_symbol_that_comes_back_leaves_no_window, BYBIT, "not in the log"),
    (windows_are_decided_by_times, BYBIT, "not in the log"),
    (what_was_traded_before_a_symbol_came_back_is_taken_for_silence, ANY, "reported as silent"),
]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("change", "seeds", "violation"), REINTRODUCED, ids=lambda value: getattr(value, "__name__", "")
)
def test_a_history_shows_the_fault(change, seeds, violation):
    for seed in seeds:
        outcome = simulate(seed, change)
        if any(violation in each for each in outcome.violations):
            assert not simulate(seed).violations  # without the fault, nothing is wrong
            return
        assert not outcome.violations, f"seed {seed} shows something else: {outcome.violations[:3]}"
    pytest.fail(f"{len(seeds)} histories do not show it")
