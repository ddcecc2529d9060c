"""The channels of a feed: which it may record, and the topics and processes that follow from them."""

from dataclasses import replace

import pytest

from k2.common.validation_errors import InvalidSpec
from k2.schemas.channels import BOOK, QUOTES, TRADES
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.feed.model import ExchangeFeed
from k2.schemas.feed.topics import feed_topics


def refusal(body: dict) -> str:
    with pytest.raises(InvalidSpec) as raised:
        ExchangeFeed.from_body(body)
    return str(raised.value)


def test_a_feed_that_names_no_channels_records_trades_and_is_stored_without_channels(feed):
    assert feed().channels == (TRADES,)
    assert "channels" not in feed().model_dump(mode="json", by_alias=True, exclude_none=True)["spec"]


@pytest.mark.parametrize("names", [["trades", "quotes"], ["quotes", "trades"]])
def test_the_order_in_which_channels_are_written_does_not_matter(feed, names):
    assert feed(channels=names).channels == (TRADES, QUOTES)


def test_a_feed_may_record_quotes_alone(feed):
    assert feed(channels=["quotes"]).channels == (QUOTES,)


def test_a_channel_that_the_exchange_does_not_offer_is_refused_with_those_that_it_offers(body, monkeypatch):
    monkeypatch.setitem(EXCHANGES, "coinbase", replace(EXCHANGES["coinbase"], channels=("trades",)))
    text = refusal(body(exchange="coinbase", symbols=["BTC-USD"], channels=["trades", "quotes"]))
    assert text == 'spec.channels[1]: "quotes" is not allowed: coinbase offers only trades'


def test_a_channel_is_listed_once(body):
    text = refusal(body(channels=["quotes", "trades", "quotes"]))
    assert text == (
        'spec.channels[2]: "quotes" is not allowed: each channel may be listed once; spec.channels[0] is the same'
    )


@pytest.mark.parametrize(
    ("exchange", "offered"),
    [
        ("binance", "binance offers books of 100, 500, 1000 or 5000 levels a side; write one of these, or 0"),
        ("kraken", "kraken offers books of 10, 25, 100, 500 or 1000 levels a side; write one of these, or 0"),
        ("coinbase", "coinbase offers whole books only; write 0, or leave depth out"),
        ("bybit", "bybit offers books of 50, 200 or 1000 levels a side; write one of these, or 0"),
        ("okx", "okx offers books of 400 levels a side; write one of these, or 0"),
    ],
)
def test_a_depth_that_the_exchange_does_not_offer_is_refused_with_those_that_it_offers(body, exchange, offered):
    symbols = [EXCHANGES[exchange].symbol_example]
    text = refusal(body(exchange=exchange, symbols=symbols, book={"depth": 7}))
    assert text.startswith(f"spec.book.depth: 7 is not allowed: {offered}")
    for depth in EXCHANGES[exchange].depths:
        ExchangeFeed.from_body(body(exchange=exchange, symbols=symbols, book={"depth": depth}))


def test_the_adapter_of_books_is_set_by_the_feed_and_others_are_not(feed):
    assert feed().options(BOOK) == {}
    both = feed(channels=["trades", "book"], book={"depth": 500, "snapshotInterval": "1m"})
    assert both.options(BOOK) == {"depth": 500, "snapshot_interval": 60_000_000}
    assert (both.options(TRADES), both.options(QUOTES)) == ({}, {})
    assert feed(book={}).options(BOOK) == {"depth": 0, "snapshot_interval": 0}
    assert "book" not in feed().model_dump(mode="json", by_alias=True, exclude_none=True)["spec"]


def test_what_is_no_interval_of_snapshots_is_refused(body):
    assert 'must be auto, or a duration: "never"' in refusal(body(book={"snapshotInterval": "never"})).replace("'", '"')
    assert refusal(body(book={"snapshotInterval": "2h"})).endswith("must be auto, or between 1s and 1h")


@pytest.mark.parametrize("names", [[], ["candles"], "quotes"])
def test_what_is_no_list_of_channels_is_refused(body, names):
    assert refusal(body(channels=names)).startswith("spec.channels")


def test_every_channel_has_its_own_topic_with_its_own_number_of_partitions(feed):
    topics = {topic.name: topic.partitions for topic in feed_topics(feed(channels=["trades", "quotes"]))[:2]}
    assert topics == {"market.crypto.trades.binance": 40, "market.crypto.quotes.binance": 20}


def test_a_given_topic_and_a_given_number_of_partitions_are_those_of_every_channel(feed):
    records_both = feed(channels=["trades", "quotes"], kafka={"topic": "mine", "partitions": 3})
    topics = {topic.name: topic.partitions for topic in feed_topics(records_both)[:2]}
    assert topics == {"mine": 3, "mine.quotes": 3}


def test_every_channel_has_its_own_processes(feed):
    spec = {"channels": ["trades", "quotes"], "ingest": {"redundancy": 2}}
    assert feed(**spec).ingest_processes() == 4
    assert feed(**spec, suspend=True).ingest_processes() == 0
