"""Files: one document, bounded, without YAML's traps."""

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.common.validation_errors import InvalidSpec
from k2.schemas.feed.model import ExchangeFeed

FEED = """
apiVersion: k2.marketdata.io/v1alpha1
kind: ExchangeFeed
metadata: {name: binance-spot}
spec:
  exchange: binance
  symbols: [BTCUSDT, ETHUSDT]
"""


def refusal(text: str | bytes) -> str:
    with pytest.raises(InvalidSpec) as raised:
        ExchangeFeed.from_yaml(text)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("text", [FEED, FEED.encode(), f"---{FEED}---\n", f"# mine\n{FEED}...\n"])
def test_a_file_with_one_feed_is_read(text):
    assert [name.symbol for name in ExchangeFeed.from_yaml(text).names] == ["BTCUSDT", "ETHUSDT"]


def test_two_documents_are_refused():
    assert refusal(f"{FEED}---{FEED}") == '"2 documents" is not allowed: a file must hold exactly one object'


@pytest.mark.parametrize("text", ["", "---\n", "# nothing\n", "null"])
def test_an_empty_file_is_refused(text):
    assert refusal(text) == '"0 documents" is not allowed: a file must hold exactly one object'


@pytest.mark.parametrize("text", ["- a\n- b\n", "just words", "42", "[]", "2024-01-01"])
def test_what_is_no_mapping_is_refused(text):
    assert refusal(text).endswith("is not allowed: the file must contain one ExchangeFeed object")


def test_a_pod_is_refused_as_such():
    text = refusal("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: []}\n")
    assert "kind: \"Pod\" is not allowed: must be 'ExchangeFeed'" in text
    assert "spec.containers: [] is not allowed: unknown field" in text


def test_a_yaml_bomb_is_refused_before_it_grows():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    began = time.perf_counter()
    assert refusal("\n".join(lines)) == "line 2, column 10: the file must be YAML: aliases (*name) are not accepted"
    assert time.perf_counter() - began < 1


def test_a_file_of_more_than_a_mebibyte_is_refused_unread():
    assert refusal(b"#" * (1 << 20) + b"\n") == '"1048577 bytes" is not allowed: at most 1048576 bytes'


def test_a_file_that_is_not_utf_8_is_refused_with_the_place():
    assert refusal(FEED.encode() + b"# caf\xe9") == f"byte {len(FEED) + 5}: the file must be UTF-8 text"


def test_a_key_twice_is_refused_with_the_place():
    assert refusal(f"{FEED}  exchange: kraken\n") == "line 8, column 3: the file must be YAML: duplicate key 'exchange'"


@pytest.mark.parametrize(
    "text",
    [
        "a: [",
        "a: b: c",
        "\ta: 1",
        "a: \0",
        "{" * 5000,
        "[" * 5000,
        "1: 2",
        "? [a]\n: b",
        "a: !!python/object/apply:os.system ['true']",
        "a: !!python/name:os.system",
        "a: 2024-13-45",
        "a: !!int x",
        "a: !!bool x",
        "a: !!timestamp x",
        "a: !!float x",
        "<<: {a: 1}",
    ],
)
def test_what_is_no_plain_yaml_is_refused_as_such(text):
    assert "the file must be YAML: " in refusal(text)


@given(st.text(max_size=200) | st.text("{}[]&*!|>'\"-: \n\tab0", max_size=60))
def test_any_text_is_a_feed_or_refused(text):
    with pytest.raises(InvalidSpec):
        ExchangeFeed.from_yaml(text)


@given(st.binary(max_size=100))
def test_any_bytes_are_a_feed_or_refused(raw):
    with pytest.raises(InvalidSpec):
        ExchangeFeed.from_yaml(raw)


@given(st.data())
def test_a_feed_with_any_part_broken_is_read_or_refused(data):
    at = data.draw(st.integers(0, len(FEED)))
    broken = FEED[:at] + data.draw(st.text(max_size=5)) + FEED[data.draw(st.integers(at, len(FEED))) :]
    with contextlib.suppress(InvalidSpec):
        assert ExchangeFeed.from_yaml(broken).spec.symbols
