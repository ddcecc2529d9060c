"""Which parts of a platform do not belong together, and which of them is newer."""

from dataclasses import replace
from typing import Any

import pytest

from k2.cli.backup.moments import Moments, QueryMoment, TableMoment, conflicts

TOPIC = "market.crypto.trades.binance"
BRONZE = TableMoment("a.metadata.json", exists=True, sequence=9, snapshots=frozenset({1, 2}), epochs={"q": 7})
SILVER = TableMoment("b.metadata.json", exists=True, sequence=3, snapshots=frozenset({3}), epochs={"s": 2}, schema_id=1)
WHOLE = Moments(
    tables={"bronze_binance_trades": BRONZE, "silver_binance_trades": SILVER},
    queries={
        "binance-trades-bronze": QueryMoment("q", 7, None, {TOPIC: {"0": 100}}, {TOPIC: "id"}),
        "binance-trades-silver": QueryMoment("s", 2, 2),
    },
    ends={TOPIC: {"0": 120}},
    topic_ids={TOPIC: "id"},
    schema_id=1,
)


def _query(name: str, **changes: Any) -> Moments:
    return replace(WHOLE, queries=WHOLE.queries | {name: replace(WHOLE.queries[name], **changes)})


def _table(name: str, **changes: Any) -> Moments:
    return replace(WHOLE, tables=WHOLE.tables | {name: replace(WHOLE.tables[name], **changes)})


def test_parts_of_one_moment_have_no_conflict():
    assert conflicts(WHOLE) == []


def test_a_checkpoint_that_has_read_all_of_kafka_is_of_the_same_moment():
    assert conflicts(replace(WHOLE, ends={TOPIC: {"0": 100}})) == []


def test_a_planned_batch_that_is_not_committed_is_of_the_same_moment():
    assert conflicts(_query("binance-trades-bronze", epoch=8)) == []


@pytest.mark.parametrize(
    ("moments", "newer", "older", "text"),
    [
        (_query("binance-trades-bronze", epoch=6), "catalog.db", "checkpoints", "batch 7 of binance-trades-bronze"),
        (_query("binance-trades-silver", snapshot=4), "checkpoints", "catalog.db", "snapshot 4"),
        (_table("bronze_binance_trades", exists=False), "catalog.db", "warehouse", "a.metadata.json"),
        (replace(WHOLE, ends={TOPIC: {"0": 99}}), "checkpoints", "kafka", "offset 100 of market.crypto.trades"),
        (replace(WHOLE, ends={}), "checkpoints", "kafka", "ends at 0"),
        (replace(WHOLE, topic_ids={TOPIC: "other"}), "kafka", "checkpoints", "was made again"),
        (replace(WHOLE, topic_ids={TOPIC: "before id"}), "kafka", "checkpoints", "was made again"),
        (replace(WHOLE, topic_ids={}), "checkpoints", "kafka", "not in Kafka"),
        (replace(WHOLE, schema_id=0), "warehouse", "registry.db", "schema 1"),
    ],
)
def test_the_newer_part_is_named(moments: Moments, newer: str, older: str, text: str):
    named = {(one.newer, one.older): str(one) for one in conflicts(moments)}
    assert text in named[newer, older]
    assert f"{newer} is newer than {older}: " in named[newer, older]


def test_a_broker_that_was_killed_does_not_tell_where_its_logs_end():
    assert conflicts(replace(WHOLE, ends=None)) == []


def test_a_pair_of_parts_is_named_once():
    moments = replace(_query("binance-trades-bronze", epoch=1), tables={**WHOLE.tables, "other": BRONZE})
    assert len(conflicts(moments)) == 1
