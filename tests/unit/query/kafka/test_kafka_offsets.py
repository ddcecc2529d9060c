"""How far Gold has consumed Kafka follows from its commits, even if ancestors were expired."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing

import pyarrow as pa
import pytest
from pyiceberg.table import Table

from k2.cli.embedded.layout import Layout
from k2.query.iceberg import catalog, tables
from k2.query.kafka import kafka_offsets
from k2.query.kafka.kafka_offsets import FrontierCache
from k2.schemas.snapshots import EXCHANGE, FRONTIER, QUERY
from k2.schemas.tables import GOLD_TABLE
from tests.unit.query.conftest import trade

Commit = Callable[..., int]


@pytest.fixture
def gold(layout: Layout) -> Iterator[Table]:
    layout.root.mkdir()
    with closing(catalog.connect(layout.platform(), create=True)) as opened:
        yield tables.ensure(opened, [GOLD_TABLE])[0]


@pytest.fixture
def commit(gold: Table) -> Commit:
    def append(offsets: dict[str, dict[str, int]], query: str = "one", exchange: str = "BINANCE") -> int:
        summary = {FRONTIER: json.dumps(offsets), QUERY: query, EXCHANGE: exchange}
        rows = pa.Table.from_pylist([trade(len(gold.snapshots()))], schema=gold.schema().as_arrow())
        gold.append(rows, snapshot_properties=summary)
        snapshot = gold.current_snapshot()
        assert snapshot is not None
        return snapshot.snapshot_id

    return append


def now(gold: Table) -> kafka_offsets.Frontier:
    return kafka_offsets.frontier_of(gold, gold.current_snapshot())


def test_the_newest_offsets_of_each_feed_count(gold: Table, commit: Commit):
    commit({"a": {"0": 5}})
    commit({"b": {"3": 7}}, "two", "KRAKEN")
    first = commit({"a": {"0": 9, "1": 1}})
    commit({"b": {"3": 8}}, "two", "KRAKEN")
    assert now(gold).offsets == {"a": {0: 9, 1: 1}, "b": {3: 8}}
    assert now(gold).exchanges == {"a": "BINANCE", "b": "KRAKEN"}
    assert (now(gold).offset("a", 1), now(gold).offset("a", 2), now(gold).offset("c", 0)) == (1, None, None)
    assert kafka_offsets.frontier_of(gold, gold.snapshot_by_id(first)).offsets == {"a": {0: 9, 1: 1}, "b": {3: 7}}
    assert kafka_offsets.frontier_of(gold, None).offsets == {}


def test_within_a_query_the_largest_offset_of_each_partition_counts(gold: Table, commit: Commit):
    commit({"a": {"0": 5, "1": 4}})
    commit({"a": {"0": 3}})
    assert now(gold).offsets == {"a": {0: 5, 1: 4}}


def test_a_restarted_query_replaces_earlier_offsets(gold: Table, commit: Commit):
    commit({"a": {"0": 900, "1": 5}})
    commit({"a": {"0": 3}}, "two")
    assert now(gold).offsets == {"a": {0: 3}}


def test_of_a_topic_that_was_made_again_the_newest_offsets_count(gold: Table, commit: Commit):
    commit({"a": {"0": 900, "1": 5}})
    commit({"a": {"0": 900, "1": 5}, "a#x": {"0": 3}})
    assert now(gold).offsets == {"a": {0: 3}}
    commit({"a": {"0": 900, "1": 5}, "a#x": {"0": 3}, "a#b": {"0": 2}})
    assert now(gold).offsets == {"a": {0: 2}}
    assert now(gold).exchanges == {"a": "BINANCE"}


def test_compaction_and_expired_ancestors_do_not_move_the_frontier(gold: Table, commit: Commit):
    commit({"a": {"0": 1}})
    lost = commit({"a": {"1": 1}})
    commit({"b": {"0": 7}}, "two")
    gold.delete("trade_id = '0'")
    gold.maintenance.expire_snapshots().by_id(lost).commit()
    assert now(gold).offsets == {"a": {0: 1}, "b": {0: 7}}


def test_the_cache_returns_what_would_be_read_and_holds_the_last_eight(gold: Table, commit: Commit):
    cache, cached = FrontierCache(), []
    first = commit({"a": {"1": 1}})
    for number in range(2, 22):
        newest = commit({"a": {str(number % 3): number}})
        if number % 2 == 0:
            assert cache.at(gold, gold.current_snapshot()) == now(gold)
            cached.append(newest)
    assert cache.at(gold, gold.snapshot_by_id(first)).offsets == {"a": {1: 1}}
    assert [*cache._cache] == [*cached[-7:], first]
    cache.at(gold, gold.snapshot_by_id(cached[-1]))
    assert [*cache._cache] == [*cached[-7:], first]


def test_a_commit_that_was_rolled_back_does_not_count(gold: Table, commit: Commit):
    first = commit({"a": {"0": 0}})
    commit({"a": {"0": 9}})
    gold.manage_snapshots().rollback_to_snapshot(first).commit()
    assert now(gold).offsets == {"a": {0: 0}}
    commit({"a": {"1": 3}})
    assert now(gold).offsets == {"a": {0: 0, 1: 3}}
