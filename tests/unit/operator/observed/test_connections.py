"""Diagnoses of the connections of a feed with several channels: the message names the channel."""

from dataclasses import replace

import pytest

from k2.operator.observed import connections
from k2.operator.observed.objects import Deployment, Observed, Pod, Shard

TRADES_UP = Deployment("binance-shard-0-0", 1, 1, current=True)
QUOTES_UP = Deployment("binance-quotes-0-0", 1, 1, current=True, channel="quotes")
TRADES = Shard("0-0", connected=True)
QUOTES = Shard("0-0", connected=True, channel="quotes")
BOTH = Observed(deployments=(TRADES_UP, QUOTES_UP), shards=(TRADES, QUOTES))
REFUSED = (("NOPE", "invalid"),)


@pytest.fixture
def both(feed):
    return feed(channels=["trades", "quotes"])


def test_channels_that_are_up_are_named(both):
    diagnosis = connections.diagnose(both, BOTH)
    assert (diagnosis.status, diagnosis.reason) == ("True", "Ready")
    assert diagnosis.message == "trades: 1 of 1 connected; quotes: 1 of 1 connected"
    halted = connections.diagnose(both, replace(BOTH, shards=(TRADES, replace(QUOTES, halted=("ETHUSDT",)))))
    assert (halted.status, halted.reason) == ("True", "SymbolsHalted")


def test_the_only_channel_is_not_named(feed):
    quotes = Observed(deployments=(QUOTES_UP,), shards=(QUOTES,))
    assert connections.diagnose(feed(channels=["quotes"]), quotes).message == "1 of 1 connected"
    assert connections.diagnose(feed(), BOTH).message == "1 of 1 connected"  # the quotes' Deployment is about to go


@pytest.mark.parametrize(
    ("changes", "status", "reason", "message"),
    [
        ({"deployments": (TRADES_UP,)}, "Unknown", "Creating", "quotes: creating Deployments"),
        (
            {"deployments": (TRADES_UP, replace(QUOTES_UP, ready=0)), "shards": (TRADES,)},
            "Unknown",
            "Starting",
            "quotes: 0 of 1 pods are ready",
        ),
        (
            {"shards": (TRADES, replace(QUOTES, connected=False, message="no route"))},
            "False",
            "NotConnected",
            "quotes: 0 of 1 connected; no route",
        ),
        ({"shards": (replace(TRADES, connected=False), QUOTES)}, "False", "NotConnected", "trades: 0 of 1 connected"),
        (
            {"pods": (Pod("p", "ImagePullBackOff", "no such", 0, channel="quotes"),)},
            "False",
            "ImagePullFailed",
            "quotes: p: no such",
        ),
        (
            {
                "deployments": (replace(TRADES_UP, ready=0), QUOTES_UP),
                "shards": (TRADES, replace(QUOTES, connected=False, message="no route")),
            },
            "False",
            "NotConnected",
            "quotes: 0 of 1 connected; no route (also not ready: trades)",
        ),
    ],
)
def test_what_is_not_ready_is_named_and_what_needs_action_first(both, changes, status, reason, message):
    diagnosis = connections.diagnose(both, replace(BOTH, **changes))
    assert (diagnosis.status, diagnosis.reason, diagnosis.message) == (status, reason, message)


def test_a_suspended_feed_waits_for_the_pods_of_every_channel(feed):
    asleep = feed(channels=["trades", "quotes"], suspend=True)
    ending = replace(BOTH, deployments=(replace(TRADES_UP, desired=0, ready=0), QUOTES_UP))
    assert connections.diagnose(asleep, ending).reason == "Stopping"


def test_refused_symbols_are_named_with_their_channel():
    both = replace(BOTH, shards=(replace(TRADES, refused=REFUSED), replace(QUOTES, refused=REFUSED)))
    message = "2 refused; they are tried again. NOPE: invalid; quotes of NOPE: invalid"
    assert connections.symbols_refused(both).message == message


def test_shards_that_are_being_added_leave_the_channel_ready(feed):
    own = feed(symbols=[f"COIN{number}USDT" for number in range(20)], channels=["trades", "quotes"])
    observed = Observed(
        deployments=(TRADES_UP, QUOTES_UP, Deployment("binance-quotes-1-0", 1, 0, current=True, channel="quotes")),
        shards=(
            replace(TRADES, pod="binance-shard-0-0-6d4c-x2x9z"),
            replace(QUOTES, pod="binance-quotes-0-0-6d4c-x2x9z"),
            Shard("1-0", False, "no route", pod="binance-quotes-1-0-6d4c-x2x9z", channel="quotes"),
        ),
        counts=(1, 2),
    )
    assert connections.diagnose(own, observed).status == "True"
    assert connections.diagnose(own, replace(observed, counts=(2,))).status == "False"
