"""What makes two records of one identity the same."""

import pytest

from k2.schemas.channels import TRADES
from k2.schemas.content import differences, same_time

AT = 1_770_000_000_000_000  # a whole second


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        (AT, AT, True),
        (AT + 123_456, AT + 123_456, True),
        (AT + 123_000, AT + 123_456, True),
        (AT + 123_000, AT + 123_999, True),
        (AT + 123_000, AT + 124_000, False),  # milliseconds both: a millisecond apart
        (AT + 123_000, AT + 122_999, False),
        (AT + 123_456, AT + 123_457, False),  # microseconds both
        (AT + 123_001, AT + 123_999, False),
        (AT, AT + 500_000, False),  # whole seconds are no precision of their own
        (AT, AT + 500_123, False),
        (AT, AT + 123, True),
    ],
)
def test_times_are_compared_at_the_coarser_precision(first: int, second: int, same: bool):
    assert same_time(first, second) is same
    assert same_time(second, first) is same


def test_only_content_and_time_decide():
    first = {"price": 1, "quantity": 2, "side": "BUY", "vendor_data": {"source": "live"}, "ingestion_timestamp": 1}
    second = first | {"vendor_data": {}, "ingestion_timestamp": 2}
    assert differences(TRADES.content, first, second, (AT, AT + 7)) == ()
    for name, value in (("price", 9), ("quantity", 9), ("side", "SELL")):
        assert differences(TRADES.content, first, second | {name: value}, (AT, AT)) == (name,)
    assert differences(TRADES.content, first, second | {"price": 9}, (AT, AT + 1_000)) == ("price", "time")
