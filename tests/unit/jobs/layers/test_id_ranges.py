"""Ranges of ids: few, and every id of the batch is in one of them."""

import random
from itertools import pairwise

from k2.jobs.layers.gold import IdRange, merged_id_ranges
from k2.schemas.records.trade import message_id


def _range(symbol: str, first: int, last: int) -> IdRange:
    return IdRange(*(str(message_id("BINANCE", symbol, str(number))) for number in (first, last)))


def test_a_few_ranges_stay_apart():
    ranges = [_range("BTCUSDT", 5, 9), _range("ETHUSDT", 1, 1)]
    assert set(merged_id_ranges(ranges)) == set(ranges)
    assert merged_id_ranges(ranges[:1]) == tuple(ranges[:1])


def test_of_many_ranges_the_closest_are_merged_and_all_are_covered():
    chance = random.Random(1)
    symbols = [f"S{number}USDT" for number in range(200)]
    ranges = [_range(symbol, first, first + 50) for symbol in symbols for first in (chance.randrange(10**9),)]
    near = [_range("BTCUSDT", number * 10, number * 10 + 1) for number in range(50)]
    merged = merged_id_ranges([*ranges, *near])
    assert len(merged) == 32
    for one in [*ranges, *near]:
        assert any(other.first <= one.first and one.last <= other.last for other in merged)
    assert all(earlier.last < later.first for earlier, later in pairwise(merged))
    assert sum(one.first <= near[0].first <= one.last for one in merged) == 1
