"""Gap events: the newest state of each, of the channel that they name."""

import json
from types import SimpleNamespace

import pytest

from k2.jobs.layers.gaps import GapsLayer
from k2.jobs.spark.local_frames import local_frame
from k2.schemas.tables import GAPS_TABLE
from tests.spark.builders import Lake

pytestmark = pytest.mark.spark


def _event(gap_id: str, state: str, **fields: str) -> bytes:
    event = {"gap_id": gap_id, "feed": "binance", "symbol": "BTCUSDT", "first_id": "1", "last_id": "2", "state": state}
    return json.dumps(event | {"detected_at": "2026-03-02T10:00:00+00:00"} | fields).encode()


def test_a_gap_has_the_channel_of_its_event_and_is_of_trades_if_the_event_has_none(lake: Lake):
    lake.feed()
    events = [
        _event("old", "open"),
        _event("old", "repaired"),
        _event("book", "open", channel="book"),
        _event("other", "open", feed="another"),
    ]
    rows = [{"value": value, "offset": offset} for offset, value in enumerate(events)]
    batch = SimpleNamespace(rows=local_frame(lake.spark, rows, "value binary, offset bigint"))
    GapsLayer("binance", "BINANCE").commit(batch)
    stored = lake.table(GAPS_TABLE).select("gap_id", "exchange", "channel", "state").collect()
    assert sorted(map(tuple, stored)) == [
        ("book", "BINANCE", "book", "open"),
        ("old", "BINANCE", "trades", "repaired"),
    ]
