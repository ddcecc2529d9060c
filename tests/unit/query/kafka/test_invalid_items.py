"""The header that names the invalid items of a frame, as the API reads it."""

import pytest

from k2.ingest.dead_letters import encode_items
from k2.ingest.exchanges.base import INEXACT, InvalidItem
from k2.query.kafka.raw_frames import invalid_items


def test_what_the_ingest_writes_is_read():
    items = [InvalidItem(INEXACT, "'NaN' is not a plain decimal number", "BTCUSDT", 7, 3)]
    assert invalid_items(encode_items(items).decode()) == [
        {"index": 3, "error": INEXACT, "reason": items[0].reason, "symbol": "BTCUSDT", "id": 7}
    ]


@pytest.mark.parametrize("text", ["", "x", "{}", "[1]", "null"])
def test_a_header_that_is_none_of_ours_names_nothing(text: str):
    assert invalid_items(text) is None
