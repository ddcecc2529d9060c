"""Decimal numbers of the wire as integers of a common power of ten."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.ingest.exchanges.integers import Places, split
from k2.schemas.values import InexactValue

WHOLE = st.integers(0, 10**6)
PLAIN = st.builds(
    lambda whole, digits, places: f"{whole}.{digits % 10**places:0{places}d}", WHOLE, WHOLE, st.integers(1, 6)
)
SCIENTIFIC = st.builds("{}{}{}".format, PLAIN | WHOLE, st.sampled_from("eE"), st.integers(-3, 2))
NUMBERS = PLAIN | SCIENTIFIC | WHOLE.map(str)


@given(NUMBERS)
def test_a_number_is_split_into_digits_and_decimals(text: str):
    digits, places = split(text)
    assert Decimal(digits).scaleb(-places) == Decimal(text)
    assert places == 0 or digits % 10  # no zeros at the end


@given(st.lists(st.lists(NUMBERS, min_size=1, max_size=4), min_size=1, max_size=6))
def test_the_numbers_of_a_record_share_a_power_and_stay_exact(records: list[list[str]]):
    places, before = Places(), 0
    for texts in records:
        values, exponent = places.integers(*texts)
        assert [Decimal(value).scaleb(exponent) for value in values] == [Decimal(text) for text in texts]
        assert exponent <= before
        before = exponent


def test_the_power_stays_when_a_price_happens_to_be_round():
    places = Places()
    assert places.integers("61837.63000000", "61837.64000000") == ([6183763, 6183764], -2)
    assert places.integers("61838.00000000", "61838.50000000") == ([6183800, 6183850], -2)


def test_a_number_that_is_too_large_for_the_usual_power_has_one_of_its_own():
    places = Places()
    places.integers("0.000000001")
    assert places.integers("9000000000000000000") == ([9_000_000_000_000_000_000], 0)
    assert places.integers("0.5") == ([500_000_000], -9)


@pytest.mark.parametrize("text", ["-1", "+1", "1_0", "٣", "", ".", "1.", ".5", "NaN", "1e999", "Infinity", " 1", "0x1"])
def test_what_is_no_plain_number_is_refused(text: str):
    with pytest.raises(InexactValue):
        Places().integers(text)


@pytest.mark.parametrize("texts", [("9223372036854775808",), ("0." + "0" * 18 + "1", "10"), ("1e40",), ("1e-41",)])
def test_numbers_that_no_common_power_fits_are_refused(texts: tuple[str, ...]):
    with pytest.raises(InexactValue, match=r"64-bit|digits"):
        Places().integers(*texts)


def test_the_largest_integer_fits():
    assert Places().integers("9223372036854775807") == ([2**63 - 1], 0)
