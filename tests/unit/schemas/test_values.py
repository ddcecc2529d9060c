"""Numbers are exact or rejected."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.schemas.values import (
    MAX_SCALED,
    InexactValue,
    decimal,
    duration_text,
    fixed_decimal,
    format_decimal,
    from_micros,
    scaled,
    scaled_decimal,
    seconds,
    to_micros,
)

AMOUNTS = st.integers(1, MAX_SCALED)


@given(AMOUNTS)
def test_every_value_survives_the_way_to_text_and_back(value):
    assert scaled(format_decimal(value)) == value
    assert scaled_decimal(decimal(value)) == value


@given(AMOUNTS)
def test_trailing_zeros_do_not_matter(value):
    padded = fixed_decimal(value, 12)
    assert padded.rstrip("0").rstrip(".") == format_decimal(value)
    assert scaled(padded) == scaled(padded + "000") == value


@given(st.decimals(allow_nan=True, allow_infinity=True))
def test_a_decimal_is_exact_or_refused(number):
    try:
        value = scaled_decimal(number)
    except InexactValue:
        return
    assert decimal(value) == number
    assert 0 < value <= MAX_SCALED


@given(st.text(max_size=50) | st.text("0123456789.eE+-_,", max_size=50))
def test_any_text_is_exact_or_refused(text):
    try:
        value = scaled(text)
    except InexactValue:
        return
    assert Decimal(text) == decimal(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("61837.63000000", 61_837_630_000_000_000),
        ("0.000000000001", 1),
        ("0.000000001234", 1_234),
        ("99999999999999999999999999.999999999999", 10**38 - 1),
        ("1", 10**12),
        ("1e-12", 1),
        ("2.5E3", 2_500_000_000_000_000),
        ("1000000000000", 10**24),
        ("0.00000000000100", 1),
        ("007", 7 * 10**12),
    ],
)
def test_a_plain_number_is_held_in_millionths_of_a_millionth(text, value):
    assert scaled(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "0", "0.00000000", "-1", "-0.00000001", "NaN", "nan", "sNaN", "Infinity", "-inf", "1e999", "1e-999", "0,5",
        "1_0", "1_000.00000000", "", " 1", "1 ", "1\n", "+1", "0x10", ".5", "5.", "1.2.3", "٣.00000000",
        "１.00000000", "9" * 40, "9" * 41, "1." + "1" * 40, "1" + "0" * 26,  # noqa: RUF001
        "1e26", "0.0000000000001", "1.1234567890123", "99999999999999999999999999.9999999999999", "1e",
    ],
)  # fmt: skip
def test_what_would_need_rounding_or_is_no_positive_number_is_refused(text):
    with pytest.raises(InexactValue):
        scaled(text)


@pytest.mark.parametrize(
    "text", ["NaN", "sNaN", "Infinity", "-1", "0", "1e999999", "1e-999999", "9" * 40, "1e26", "1e-13"]
)
def test_a_decimal_that_does_not_fit_is_refused(text):
    with pytest.raises(InexactValue):
        scaled_decimal(Decimal(text))


@pytest.mark.parametrize("text", ["1e999", "0.0000000000001", "1" * 40, "1E+26", "-0", "nan", "1_0"])
def test_a_refusal_quotes_the_text_as_it_came(text):
    with pytest.raises(InexactValue) as refusal:
        scaled(text)
    assert text in str(refusal.value)


@pytest.mark.parametrize(
    ("value", "places", "text"),
    [
        (61_837_630_000_000_000, 8, "61837.63000000"),
        (61_837_630_000_000_000, 12, "61837.630000000000"),
        (10**12, 2, "1.00"),
        (1_234, 8, "0.00000000"),
        (1_234, 12, "0.000000001234"),
    ],
)
def test_a_fixed_number_of_decimals_has_its_zeros(value, places, text):
    assert fixed_decimal(value, places) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(10**12, "1"), (60_000 * 10**12, "60000"), (1, "0.000000000001"), (61_837_630_000_000_000, "61837.63")],
)
def test_a_number_is_shown_without_zeros_at_its_end(value, text):
    assert format_decimal(value) == text


def test_a_refusal_shows_the_number_but_not_all_of_it():
    with pytest.raises(InexactValue) as refusal:
        scaled("x" * 10_000)
    assert "'xxx" in str(refusal.value)
    assert len(str(refusal.value)) < 200


@pytest.mark.parametrize(
    ("text", "expected"), [("500ms", 0.5), ("10s", 10), ("2m", 120), ("168h", 604_800), ("7d", 604_800)]
)
def test_a_duration_is_a_whole_number_and_a_unit(text, expected):
    assert seconds(text) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    "text", ["0s", "-1", "-1s", "1ns", "1us", "1.5s", "1h30m", "", "s", "10", "1e3s", " 1s", "1s\n", "9" * 10 + "d"]
)
def test_any_other_duration_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match="such as 10s"):
        seconds(text)


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_moment_is_exact_to_the_microsecond(when):
    assert from_micros(to_micros(when)) == when


def test_a_time_zone_is_honoured():
    assert to_micros(datetime(1970, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))) == 0


@pytest.mark.parametrize(
    ("total", "text"), [(9.9, "9s"), (119, "119s"), (240, "4m"), (10_800, "3h"), (1_036_800, "12d")]
)
def test_a_duration_is_formatted_in_its_largest_fitting_unit(total, text):
    assert duration_text(total) == text
