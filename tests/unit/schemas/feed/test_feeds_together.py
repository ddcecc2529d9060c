"""How a feed is spread over shards, and which feeds cannot run side by side."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.schemas.exchanges.spec import SymbolName
from k2.schemas.feed.model import ExchangeFeed, conflicts

SYMBOLS = [f"A{number:03}USDT" for number in range(400)]


def sharded(feed, shards: int) -> list[set[str]]:
    sharded: ExchangeFeed = feed(symbols=SYMBOLS, ingest={"shards": shards})
    return [{pair.symbol for pair in sharded.shard(index)} for index in range(shards)]


@pytest.mark.parametrize("shards", [1, 2, 3, 7, 64])
def test_every_symbol_is_in_exactly_one_shard(feed, shards):
    parts = sharded(feed, shards)
    assert set.union(*parts) == set(SYMBOLS)
    assert sum(map(len, parts)) == len(SYMBOLS)


def test_no_shard_holds_much_more_than_its_share(feed):
    assert all(70 <= len(part) <= 130 for part in sharded(feed, 4))


@pytest.mark.parametrize("shards", [1, 2, 4, 8])
def test_one_shard_more_takes_symbols_and_moves_no_others(feed, shards):
    before, after = sharded(feed, shards), sharded(feed, shards + 1)
    assert all(new <= old for old, new in zip(before, after, strict=False))
    assert len(after[-1]) < 2 * len(SYMBOLS) / (shards + 1)


def test_a_symbols_shard_does_not_depend_on_its_neighbours(feed):
    alone = feed(symbols=["BTCUSDT"], ingest={"shards": 8})
    among = feed(symbols=["BTCUSDT", *SYMBOLS], ingest={"shards": 8})
    home = next(index for index in range(8) if alone.shard(index))
    assert "BTCUSDT" in {pair.symbol for pair in among.shard(home)}


def test_a_shard_that_does_not_exist_has_no_symbols(feed):
    assert feed(symbols=SYMBOLS, ingest={"shards": 2}).shard(2) == ()


@given(st.lists(st.sampled_from(SYMBOLS), min_size=1, max_size=30, unique=True), st.integers(1, 64))
def test_shards_always_partition_the_symbols(symbols, shards):
    body = {
        "apiVersion": "k2.marketdata.io/v1alpha1", "kind": "ExchangeFeed", "metadata": {"name": "a"},
        "spec": {"exchange": "binance", "symbols": symbols, "ingest": {"shards": shards}},
    }  # fmt: skip
    parsed = ExchangeFeed.from_body(body)
    assert sorted(pair.symbol for index in range(shards) for pair in parsed.shard(index)) == sorted(symbols)


def test_feeds_of_different_exchanges_run_side_by_side(feed):
    assert conflicts([feed("a"), feed("b", exchange="bybit"), feed("c", exchange="kraken", symbols=["BTC/USD"])]) == []


def test_a_name_belongs_to_one_feed(feed):
    (problem,) = conflicts([feed("a"), feed("a", exchange="bybit")])
    assert str(problem) == 'a: "a" is not allowed: this name already belongs to feed a'


def test_a_topic_belongs_to_one_feed(feed):
    (problem,) = conflicts([feed("a"), feed("b", symbols=["ETHUSDT"])])
    assert str(problem) == 'b: "market.crypto.trades.binance" is not allowed: this topic already belongs to feed a'


def test_an_exchanges_symbol_belongs_to_one_feed(feed):
    (problem,) = conflicts([feed("a"), feed("b", symbols=["ETHUSDT", "BTCUSDT"], kafka={"topic": "mine"})])
    assert str(problem) == 'b: "BTCUSDT" is not allowed: this symbol already belongs to feed a'


def test_feeds_of_one_exchange_with_their_own_topics_and_symbols_run_side_by_side(feed):
    assert conflicts([feed("a"), feed("b", symbols=["ETHUSDT"], kafka={"topic": "mine"})]) == []


@pytest.mark.parametrize("channels", [["trades", "quotes"], ["trades"], None])
def test_a_topic_of_quotes_belongs_to_one_feed_whether_it_records_it_or_not(feed, channels):
    owner = feed("a", channels=channels, kafka={"topic": "mine"})
    (problem,) = conflicts([owner, feed("b", symbols=["ETHUSDT"], kafka={"topic": "mine.quotes"})])
    assert str(problem) == 'b: "mine.quotes" is not allowed: this topic already belongs to feed a'


@pytest.mark.parametrize("turned", [False, True])
def test_a_feed_is_not_named_like_the_processes_of_anothers_channel(feed, turned):
    feeds = [feed("a", channels=["quotes"]), feed("a-quotes", exchange="bybit")]
    (problem,) = conflicts(feeds[::-1] if turned else feeds)
    assert '"a-quotes" is not allowed: this name already belongs to feed' in str(problem)


def selecting(feed, name: str, **spec):
    return feed(name, symbols=None, symbolSelector={"quotes": ["USDT"]}, **spec)


def test_a_feed_that_selects_its_symbols_is_the_only_one_of_its_exchange(feed):
    for feeds in ([feed("a"), selecting(feed, "b", kafka={"topic": "mine"})], [selecting(feed, "a"), feed("b")]):
        (problem,) = conflicts(feeds)
        assert str(problem) == (
            'b: "binance" is not allowed: feed a has the same exchange, and one with symbolSelector must be the only '
            "feed of its own"
        )
    assert conflicts([selecting(feed, "a"), feed("b", exchange="bybit"), selecting(feed, "c", exchange="okx")]) == []


def test_every_shard_of_a_feed_that_selects_its_symbols_runs(feed):
    selects = selecting(feed, "a", ingest={"shards": 3, "redundancy": 2})
    assert selects.shards() == (0, 1, 2)
    assert selects.ingest_processes() == 6
    assert selects.names == selects.shard(0) == ()
    named = [SymbolName(f"A{number}USDT", f"A{number}USDT") for number in range(30)]
    shards = [selects.shard(index, named) for index in range(3)]
    assert sorted(name.symbol for shard in shards for name in shard) == sorted(name.symbol for name in named)
    listed = feed("a", symbols=[name.symbol for name in named], ingest={"shards": 3})
    assert [set(listed.shard(index)) for index in range(3)] == [set(shard) for shard in shards]
