"""Products, sums and ratios of prices and quantities beside Python's Decimal: equal to the last digit, or null."""

import random
from collections import defaultdict
from datetime import timedelta
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any

import pytest
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.jobs.layers import exact
from k2.jobs.layers.bars import bars_of_trades
from k2.jobs.spark.local_frames import local_frame
from k2.schemas import tables
from k2.schemas.tables.spec import NOTIONAL, PRICE
from tests.spark.builders import HOUR, Lake

pytestmark = pytest.mark.spark

LIMIT = 10**38
EXACT = Context(prec=200)
SMALLEST = 1  # in units of 10**-12
GOLD = ", ".join(f"`{column.name}` {column.type}" for column in tables.GOLD_TABLE.columns)


def _units(chance: random.Random, digits: int = 26) -> int:
    """Return a number of random length, from 10**-12 to 10**(digits - 12), in units of 10**-12."""
    return chance.randrange(1, 10 ** chance.randint(1, digits) + 1)


def _decimal(units: int, places: int) -> Decimal | None:
    return Decimal(units).scaleb(-places, EXACT) if units < LIMIT else None


def _text(units: int, places: int = 12) -> str:
    return f"{Decimal(units).scaleb(-places, EXACT):f}"


def _vwap(notional: int, volume: int) -> Decimal | None:
    """Return notional (in 10**-24) over volume (in 10**-12), half up at the twelfth place."""
    return _decimal((2 * notional + volume) // (2 * volume), 12)


def test_the_reference_rounds_as_decimals_do():
    chance = random.Random(1)
    for _ in range(200):
        notional, volume = _units(chance, 38), _units(chance, 38)
        quotient = EXACT.divide(Decimal(notional).scaleb(-24, EXACT), Decimal(volume).scaleb(-12, EXACT))
        rounded = quotient.quantize(Decimal("1e-12"), ROUND_HALF_UP, EXACT)
        assert _vwap(notional, volume) == (rounded if rounded < 10**26 else None)


def test_a_product_has_all_of_its_digits_or_is_null(lake: Lake):
    chance = random.Random(2)
    pairs = [(_units(chance), _units(chance)) for _ in range(3000)]
    pairs += [(SMALLEST, SMALLEST), (LIMIT - 1, SMALLEST), (LIMIT - 1, LIMIT - 1), (10**27, 10**12), (10**26, 10**12)]
    pairs += [(10**19 - 1, 10**19 + 1), (10**19, 10**19)]
    rows = [{"n": n, "p": _text(p), "q": _text(q)} for n, (p, q) in enumerate(pairs)]
    frame = local_frame(lake.spark, rows, f"n int, p {PRICE}, q {PRICE}")
    results = frame.select("n", exact.product(F.col("p"), F.col("q")).alias("product"))
    assert dict(results.dtypes)["product"] == NOTIONAL
    actual = {row["n"]: row["product"] for row in results.collect()}
    assert actual == {n: _decimal(p * q, 24) for n, (p, q) in enumerate(pairs)}
    assert 100 < sum(value is None for value in actual.values()) < 2900


def test_a_ratio_is_rounded_once_and_half_up(lake: Lake):
    chance = random.Random(3)
    pairs = [(_units(chance, 38), _units(chance, 38)) for _ in range(3000)]
    for digits in (1, 5, 12, 13, 20, 26, 37, 38):
        for _ in range(40):  # halves, and what lies 10**-38 beside them
            volume = 2 * _units(chance, digits) - 1
            quotient = chance.randrange(max(1, (LIMIT - 1) // volume))
            middle = quotient * volume + (volume - 1) // 2
            pairs += [(units, volume) for units in (middle, middle + 1) if 0 < units < LIMIT and volume < LIMIT]
            pairs += [(middle, volume + 1)] if middle and volume + 1 < LIMIT else []
    pairs += [(LIMIT - 1, LIMIT - 1), (LIMIT - 1, SMALLEST), (SMALLEST, LIMIT - 1), (SMALLEST, SMALLEST), (3, 2)]
    rows = [{"n": n, "a": _text(a, 24), "v": _text(v)} for n, (a, v) in enumerate(pairs)]
    rows += [{"n": -1, "v": "1"}, {"n": -2, "a": "1"}]
    rows += [{"n": -3, "a": "1", "v": "0"}]
    frame = local_frame(lake.spark, rows, f"n int, a {NOTIONAL}, v {PRICE}")
    results = frame.select("n", exact.ratio(F.col("a"), F.col("v")).alias("ratio"))
    assert dict(results.dtypes)["ratio"] == PRICE
    actual = {row["n"]: row["ratio"] for row in results.collect()}
    nulls = {-1: None, -2: None, -3: None}
    assert actual == {n: _vwap(a, v) for n, (a, v) in enumerate(pairs)} | nulls


def _trade(number: int, minute: int, price: int, quantity: int) -> dict[str, Any]:
    at = HOUR + timedelta(minutes=minute, milliseconds=number)
    return {
        "message_id": str(number), "trade_id": str(number), "symbol": "BTCUSDT", "exchange": "BINANCE",
        "timestamp": at, "price": _text(price), "quantity": _text(quantity), "exchange_date": at.date().isoformat(),
        "exchange_hour": at.hour,
    }  # fmt: skip


def test_bars_of_random_trades_are_exact_or_null(lake: Lake):
    chance = random.Random(4)
    trades: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for _ in range(2000):
        trades[chance.randrange(40)].append((_units(chance, 22), _units(chance, 16)))
    trades[50] = [(10**27, 10**12), (10**12, 10**12)]  # one notional of 10**15
    trades[51] = [(SMALLEST, SMALLEST)]
    trades[52] = [(SMALLEST, LIMIT - 1)] * 2  # a volume of 39 digits
    trades[53] = [(10**25, 10**12)] * 10  # a notional of 39 digits
    trades[54] = [(10**32, 10**5)]  # a price of 10**20
    rows = [
        _trade(minute * 1000 + number, minute, *pair)
        for minute, pairs in trades.items()
        for number, pair in enumerate(pairs)
    ]
    stored = bars_of_trades(local_frame(lake.spark, rows, GOLD)).selectExpr("minute(open_time) AS at", "*").collect()
    for row in stored:
        pairs = trades[row["at"]]
        volume, notional = sum(q for _, q in pairs), sum(p * q for p, q in pairs)
        fits = notional < LIMIT and volume < LIMIT
        assert row["trade_count"] == len(pairs)
        assert row["volume"] == _decimal(volume, 12)
        assert row["notional"] == _decimal(notional, 24)
        assert row["vwap"] == (_vwap(notional, volume) if fits else None)
    by_minute = {row["at"]: (row["notional"], row["vwap"]) for row in stored}
    assert by_minute[50] == (None, None)
    assert by_minute[51] == (Decimal("1e-24"), Decimal("1e-12"))
    assert by_minute[52][1] is by_minute[53][0] is None
    assert by_minute[54][1] == 10**20
