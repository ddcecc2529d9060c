"""Gap events: the newest state of each, of the channel that they name."""

import json
from types import SimpleNamespace

import pytest

from k2.jobs.layers.gaps import GapsLayer
from k2.jobs.spark.local_frames import local_frame
from k2.schemas import topics
from k2.schemas.tables import GAPS_TABLE
from tests.spark.builders import Lake

pytestmark = pytest.mark.spark


def _event(gap_id: str, state: str, **fields: str) -> bytes:
    event = {"gap_id": gap_id, "feed": "binance", "symbol": "BTCUSDT", "first_id": "1", "last_id": "2", "state": state}
    return json.dumps(event | {"detected_at": "2026-03-02T10:00:00+00:00"} | fields).encode()


def _commit(lake: Lake, *events: bytes) -> None:
    """Commit a batch of gap events, and a record of another topic."""
    topic = topics.gaps("binance")
    rows = [{"topic": topic, "value": value, "offset": offset} for offset, value in enumerate(events)]
    rows.append({"topic": "market.crypto.gaps.kraken", "value": _event("elsewhere", "open"), "offset": 0})
    frame = local_frame(lake.spark, rows, "topic string, key binary, value binary, offset bigint")
    GapsLayer("binance", "binance", "BINANCE").commit(SimpleNamespace(rows=frame))


def test_a_gap_has_the_channel_of_its_event_and_is_of_trades_if_the_event_has_none(lake: Lake):
    lake.feed()
    events = [
        _event("old", "open"),
        _event("old", "repaired"),
        _event("book", "open", channel="book"),
        _event("other", "open", feed="another"),
    ]
    _commit(lake, *events)
    stored = lake.table(GAPS_TABLE).select("gap_id", "exchange", "channel", "state").collect()
    assert sorted(map(tuple, stored)) == [
        ("book", "BINANCE", "book", "open"),
        ("old", "BINANCE", "trades", "repaired"),
    ]


def test_a_repaired_gap_has_the_resolution_and_time_of_its_event(lake: Lake):
    lake.feed()
    event = _event("one", "repaired", resolution="rest", resolved_at="2026-03-02T10:00:07.500000+00:00")
    _commit(lake, event)
    (row,) = lake.table(GAPS_TABLE).selectExpr("resolution", "unix_millis(resolved_at) AS at").collect()
    assert tuple(row) == ("rest", 1_772_445_607_500)
