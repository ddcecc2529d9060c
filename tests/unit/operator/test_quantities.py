from decimal import Decimal

import pytest

from k2.operator import quantities
from k2.operator.desired.hashing import digest


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1000m", "1"),
        ("0.5", "500m"),
        ("1Gi", "1024Mi"),
        (2, "2"),
        ("1e3", "1k"),
        ("1M", "1000k"),
        ("1.5Gi", "1536Mi"),
        (".5", 0.5),
        (0.1, "100m"),
    ],
)
def test_equal_quantities_in_different_notations_are_equal(one, other):
    assert quantities.parse(one) == quantities.parse(other) is not None


@pytest.mark.parametrize(
    "text", ["", "1 Gi", "Gi", "1GiB", "1K", "0x10", "1e", "1e3k", "1_0", "NaN", None, True, [], "1\n", "--1"]
)
def test_an_invalid_quantity_is_none(text):
    assert quantities.parse(text) is None


def test_large_and_small_suffixes_differ():
    assert quantities.parse("1M") == Decimal(10**6)
    assert quantities.parse("1Mi") == Decimal(2**20)
    assert quantities.parse("1m") == Decimal("0.001")


def test_memory_is_whole_mebibytes_rounded_down():
    assert quantities.mebibytes("1G") == 953
    with pytest.raises(ValueError, match="write for example 768Mi or 2Gi"):
        quantities.mebibytes("1023Ki")


@pytest.mark.parametrize(("text", "expected"), [("100m", 1), ("1", 1), ("1001m", 2), ("4", 4)])
def test_cpus_are_whole_and_at_least_one(text, expected):
    assert quantities.cores(text) == expected


def test_a_digest_depends_on_content_and_not_on_order():
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert len({digest({"a": 1}), digest({"a": "1"}), digest({"a": [1]}), digest([1, 2]), digest([2, 1])}) == 5
