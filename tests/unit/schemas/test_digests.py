"""Canonical bytes and digests, with the bytes written out: outsiders rely on them."""

import hashlib
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from k2.schemas.channels import TRADES
from k2.schemas.digests import (
    GOLD,
    LEAF,
    MODULUS,
    RECORD,
    Digest,
    canonical_bytes,
    digest,
    leaf_columns,
    row_hash,
)

TRADE = {
    "exchange": "BINANCE", "symbol": "BTCUSDT", "trade_id": "17",
    "timestamp": datetime(2026, 3, 2, 10, 0, 0, 250_000, UTC), "price": Decimal("61837.630000000000"),
    "quantity": Decimal("0.020000000000"), "side": "BUY",
}  # fmt: skip
LEAF_BYTES = (
    b"k2.leaf.1\nexchange=7:BINANCEsymbol=7:BTCUSDTtrade_id=2:17timestamp=16:1772445600250000"
    b"price=8:61837.63quantity=4:0.02side=3:BUY"
)


def test_the_canonical_leaf_of_a_trade_has_the_published_bytes():
    assert leaf_columns(TRADES) == tuple(TRADE)
    assert canonical_bytes(LEAF, TRADE) == LEAF_BYTES
    total = int(hashlib.sha256(LEAF_BYTES).hexdigest(), 16)
    assert digest(LEAF, [TRADE]) == Digest(1, total)
    assert digest(LEAF, [TRADE] * 3) == Digest(3, total * 3 % MODULUS)


@pytest.mark.parametrize(
    ("value", "content"),
    [
        ("", b"0:"),
        ("BTC€", b"6:BTC\xe2\x82\xac"),
        (b"\x00\xff", b"2:\x00\xff"),
        (-12, b"3:-12"),
        (Decimal("0E-12"), b"1:0"),
        (Decimal("1E+3"), b"4:1000"),
        (Decimal("0.000000000001"), b"14:0.000000000001"),
        (Decimal("100.000000000000"), b"3:100"),
        (date(1970, 1, 11), b"2:10"),
        (datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC), b"7:1000000"),
        ({}, b"0:"),
        ([], b"0:"),
        (["a", None, ""], b"6:1:a-0:"),
        ([{"price": 5, "amount": None}], b"22:19:6:amount-5:price1:5"),
        ({"é": "1", "b": None, "a": ""}, b"16:1:a0:1:b-2:\xc3\xa91:1"),
    ],
)
def test_each_type_has_one_form(value, content):
    assert canonical_bytes(RECORD, {"x": value}) == b"k2.record.1\nx=" + content


def test_null_is_left_out_and_is_not_an_empty_value():
    assert canonical_bytes(GOLD, {"a": "1", "b": None}) == canonical_bytes(GOLD, {"a": "1"})
    assert canonical_bytes(GOLD, {"a": "1", "b": ""}) != canonical_bytes(GOLD, {"a": "1"})


@pytest.mark.parametrize("value", [True, 1.5, [2.5]])
def test_a_value_without_canonical_bytes_is_refused(value):
    with pytest.raises(TypeError, match=r"(bool|float) has no canonical bytes"):
        canonical_bytes(GOLD, {"a": value})


def test_rows_with_the_same_texts_in_other_places_differ():
    rows = [{"a": "1", "b": "2"}, {"a": "12", "b": ""}, {"a": "1b=1:2"}, {"b": "1", "a": "2"}, {"a": {"1": "2"}}]
    assert len({row_hash(GOLD, row) for row in rows} | {row_hash(LEAF, row) for row in rows}) == 10


def test_digests_add_up_in_any_order_and_subtract():
    rows = [TRADE | {"trade_id": str(number)} for number in range(50)]
    whole = digest(GOLD, rows)
    assert digest(GOLD, reversed(rows)) == whole == digest(GOLD, rows[:20]) + digest(GOLD, rows[20:])
    assert whole - digest(GOLD, rows[20:]) == digest(GOLD, rows[:20])
    assert Digest() - whole == Digest(-50, MODULUS - whole.sum)


def test_the_text_of_a_digest_is_read_back_and_nothing_else():
    whole = digest(GOLD, [TRADE])
    assert str(Digest(3, 255)) == f"3:{'0' * 62}ff"
    assert Digest.parse(str(whole)) == whole
    for text in ("1:ff", "x", f"1:{'g' * 64}", f"01:{'0' * 64}"):
        with pytest.raises(ValueError):
            Digest.parse(text)
