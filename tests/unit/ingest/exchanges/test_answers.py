"""Which REST errors are final: the declared tables, what they judge, and the page that shows them."""

import json
from pathlib import Path

import pytest

from k2.ingest.exchanges import rest_answers
from k2.ingest.exchanges.answers import seconds
from k2.ingest.exchanges.base import RestRefused
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.states import GapReason

PAGE = Path(__file__).parents[4] / "docs/reference/exchanges.md"
HTML = b"<!DOCTYPE html><html><head><title>502: Bad gateway</title></head></html>"

FINAL = [
    ("binance", 400, {"code": -1121, "msg": "Invalid symbol."}, GapReason.UNKNOWN_SYMBOL),
    ("binance", 400, {"code": -1130, "msg": "Data sent for parameter 'limit' is not valid."}, GapReason.BAD_REQUEST),
    ("binance", 400, {"code": -1100, "msg": "Illegal characters found in parameter 'symbol'"}, GapReason.BAD_REQUEST),
    ("kraken", 200, {"error": ["EQuery:Unknown asset pair"]}, GapReason.UNKNOWN_SYMBOL),
    ("kraken", 200, {"error": ["EGeneral:Invalid arguments:count"]}, GapReason.BAD_REQUEST),
    ("bybit", 200, {"retCode": 10001, "retMsg": "Not supported symbols", "result": {}}, GapReason.UNKNOWN_SYMBOL),
    ("okx", 200, {"code": "51001", "msg": "Instrument ID does not exist.", "data": []}, GapReason.UNKNOWN_SYMBOL),
    ("okx", 400, {"code": "51000", "msg": "Parameter after error", "data": []}, GapReason.BAD_REQUEST),
]

# Each with whether it forbids all requests for a while.
TRANSIENT = [
    ("binance", 400, {"code": -1001, "msg": "Internal error; unable to process your request."}, False),
    ("binance", 400, {"code": -1000, "msg": "An unknown error occurred."}, False),
    ("binance", 408, {"code": -1007, "msg": "Timeout waiting for response from backend server."}, False),
    ("binance", 429, {"code": -1003, "msg": "Too many requests queued."}, True),
    ("binance", 418, {"code": -1003, "msg": "Way too much request weight used; IP banned until 1893456000000."}, True),
    ("binance", 451, {"code": 0, "msg": "Service unavailable from a restricted location"}, False),
    ("binance", 400, {"code": -1008, "msg": "Server is currently overloaded."}, False),
    ("kraken", 200, {"error": ["EGeneral:Internal error"]}, False),
    ("kraken", 200, {"error": ["EService:Unavailable"]}, True),
    ("kraken", 200, {"error": ["EService:Timeout"]}, True),
    ("kraken", 200, {"error": ["EAPI:Rate limit exceeded"]}, True),
    ("kraken", 200, {"error": ["EGeneral:Too many requests"]}, True),
    ("kraken", 200, {"error": ["EService:Busy", "EQuery:Unknown asset pair"]}, True),
    ("kraken", 200, {"error": ["WGeneral:Deprecated"]}, False),
    ("coinbase", 404, {"message": "NotFound"}, False),
    ("coinbase", 429, {"message": "Public rate limit exceeded"}, True),
    ("coinbase", 400, {"message": "Invalid cursor"}, False),
    ("bybit", 200, {"retCode": 10016, "retMsg": "Internal server error.", "result": {}}, False),
    ("bybit", 200, {"retCode": 10006, "retMsg": "Too many visits!", "result": {}}, True),
    ("bybit", 403, {"retMsg": "access too frequent"}, True),
    ("bybit", 403, {"retMsg": "forbidden"}, False),
    ("okx", 503, {"code": "50001", "msg": "Service temporarily unavailable.", "data": []}, False),
    ("okx", 400, {"code": "50004", "msg": "API endpoint request timeout.", "data": []}, False),
    ("okx", 429, {"code": "50011", "msg": "Too Many Requests", "data": []}, True),
    ("okx", 200, {"code": "50013", "msg": "Systems are busy.", "data": []}, True),
    ("okx", 500, {"code": "50026", "msg": "System error.", "data": []}, False),
]


def refusal(exchange: str, status: int, body: bytes, retry_after: str | None = None) -> RestRefused:
    with pytest.raises(RestRefused) as raised:
        rest_answers(exchange).check(body, status, retry_after)
    return raised.value


@pytest.mark.parametrize(("exchange", "status", "body", "reason"), FINAL)
def test_errors_of_the_request_itself_are_final(exchange, status, body, reason):
    error = refusal(exchange, status, json.dumps(body).encode())
    assert (error.reason, error.unknown_symbol) == (reason, reason is GapReason.UNKNOWN_SYMBOL)


@pytest.mark.parametrize(("exchange", "status", "body", "pauses"), TRANSIENT)
def test_other_errors_are_transient(exchange, status, body, pauses):
    error = refusal(exchange, status, json.dumps(body).encode())
    assert (error.reason, error.pauses) == (None, pauses)
    assert (error.retry_after is not None) == pauses


@pytest.mark.parametrize("exchange", EXCHANGES)
@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 418, 429, 451, 500, 502, 503, 504, 520, 522])
@pytest.mark.parametrize("body", [HTML, b"", b"{", b"\xff", b"null", b"[]", b'{"code":-1121', b'"EQuery"'])
def test_no_status_alone_is_final(exchange, status, body):
    assert refusal(exchange, status, body).reason is None


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_an_answer_of_the_exchange_decides_only_in_its_own_words(exchange):
    """The final error of each other exchange means nothing to this one."""
    for other, status, body, _ in FINAL:
        if other != exchange:
            assert refusal(exchange, max(status, 400), json.dumps(body).encode()).reason is None


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_only_the_exchange_that_says_so_bans_the_address_with_403(exchange):
    banned = refusal(exchange, 403, b"<html>403 Forbidden: access too frequent</html>")
    expected = {"bybit": (True, 600.0, False), "binance": (True, 300.0, True)}
    assert (banned.pauses, banned.retry_after, banned.stops_connects) == expected.get(exchange, (False, None, False))


def test_the_exchanges_own_time_overrides_the_tables():
    body = b'{"code":-1003,"msg":"Too many requests queued."}'
    assert refusal("binance", 429, body).retry_after == 30.0
    assert refusal("binance", 429, body, "7").retry_after == 7.0
    assert refusal("binance", 503, HTML, "11").retry_after == 11.0


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None), ("", None), ("5", 5.0), (" 5 ", 5.0), ("1.5", 1.5), ("-1", None), ("soon", None),
        ("\u0661", None), ("9" * 30, 86_400.0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
    ],
)  # fmt: skip
def test_retry_after_is_a_number_or_a_date(header, expected):
    assert seconds(header) == expected


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_a_good_answer_is_no_error(exchange):
    good = {
        "binance": b"[]", "kraken": b'{"error":[],"result":{"XXBTZUSD":[],"last":"1"}}', "coinbase": b"[]",
        "bybit": b'{"retCode":0,"retMsg":"OK","result":{"list":[]}}', "okx": b'{"code":"0","msg":"","data":[]}',
    }  # fmt: skip
    rest_answers(exchange).check(good[exchange])


def test_a_change_of_a_table_changes_its_version():
    versions = {rest_answers(exchange).version for exchange in EXCHANGES}
    assert len(versions) == len(EXCHANGES)
    assert rest_answers("binance").version == rest_answers("binance").version


def rows() -> list[str]:
    """The rows that the page must have, from the declared tables."""
    lines = []
    for exchange in EXCHANGES:
        table = rest_answers(exchange)
        for entry in table.final:
            name = " ".join(part for part in (entry.code, entry.words) if part)
            lines.append(f"| {exchange} | `{name}` | `{entry.reason}` | {entry.source} |")
        history = table.history
        limits = [f"newest {history.rows} trades"] * bool(history.rows)
        limits += [f"{history.age / 86_400:.0f} days"] * bool(history.age) + [
            "answers from its oldest id on"
        ] * history.has_floor
        lines += [f"| {exchange} | {limit} | `{GapReason.OUT_OF_HISTORY}` | {history.source} |" for limit in limits]
        for pause in table.pauses:
            status = f"HTTP {pause.status}" if pause.status else ""
            name = " ".join(part for part in (status, pause.code, pause.words.strip('"')) if part)
            length = f"{pause.seconds:.0f} s" + ", websockets too" * pause.connects
            lines.append(f"| {exchange} | `{name}` | {length} | {pause.source} |")
    return lines


def test_the_page_lists_exactly_the_declared_answers():
    text = PAGE.read_text("utf-8")
    section = text.partition("## Final answers\n")[2].partition("\n## Exchange notes")[0]
    listed = [line for line in section.splitlines() if line.startswith(tuple(f"| {name} |" for name in EXCHANGES))]
    assert sorted(listed) == sorted(rows())
