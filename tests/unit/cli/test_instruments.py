"""`k2 instruments`: the list of an exchange over HTTP."""

import json

import pytest
from aiohttp import web
from typer.testing import CliRunner

from k2.cli.main import app

PAIRS = {
    "XXBTZUSD": {"altname": "XBTUSD", "wsname": "XBT/USD", "pair_decimals": 1, "lot_decimals": 8, "status": "online"},
    "XBTUSD.d": {"altname": "XBTUSD.d", "pair_decimals": 1, "lot_decimals": 8},
}
TOKENS = {"AAPLxUSD": {"altname": "AAPLxUSD", "wsname": "AAPLx/USD", "pair_decimals": 2, "lot_decimals": 8}}


@pytest.fixture
def kraken(serve) -> str:
    async def pairs(request: web.Request) -> web.Response:
        tokenized = request.query.get("aclass_base") == "tokenized_asset"
        return web.json_response({"error": [], "result": TOKENS if tokenized else PAIRS})

    application = web.Application()
    application.router.add_get("/0/public/AssetPairs", pairs)
    return serve(application)


def run(*words: str):
    return CliRunner().invoke(app, ["instruments", *words])


def test_all_lists_of_an_exchange_are_printed_with_what_is_rejected(kraken):
    result = run("kraken", "--endpoint", kraken, "--format", "json")
    assert result.exit_code == 0
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(row["raw_symbol"], row["symbol"], row["tick_size"]) for row in rows] == [
        ("AAPLx/USD", "AAPLXUSD", "0.01"),
        ("BTC/USD", "BTCUSD", "0.1"),
        ("XBTUSD.d", None, None),
    ]
    assert "dark pool" in rows[2]["rejected"]


@pytest.mark.parametrize("match", ["AAPLx/*", "aaplxusd", "*PLX*"])
def test_match_takes_either_spelling(kraken, match):
    result = run("kraken", "--endpoint", kraken, "--match", match)
    assert result.exit_code == 0
    header, row = result.stdout.splitlines()
    assert header.split()[:3] == ["EXCHANGE", "RAW_SYMBOL", "SYMBOL"]
    assert row.split()[:3] == ["KRAKEN", "AAPLx/USD", "AAPLXUSD"]


def test_an_unknown_exchange_is_bad_input():
    result = run("mtgox")
    assert result.exit_code == 2
    assert "'mtgox' is no exchange that K2 knows; use one of binance, kraken" in result.stderr


def test_an_endpoint_of_another_scheme_is_bad_input():
    result = run("kraken", "--endpoint", "wss://ws.kraken.com")
    assert result.exit_code == 2
    assert "wss://ws.kraken.com is no URL" in result.stderr


def test_an_exchange_that_does_not_answer_is_unreachable():
    result = run("kraken", "--endpoint", "http://127.0.0.1:9")
    assert result.exit_code == 3
    assert "the instrument list of kraken cannot be read" in result.stderr


def test_an_error_of_the_exchange_is_no_empty_list(serve):
    async def failing(_: web.Request) -> web.Response:
        return web.Response(status=503, text="<html>")

    application = web.Application()
    application.router.add_get("/products", failing)
    result = run("coinbase", "--endpoint", serve(application))
    assert result.exit_code == 3
    assert "HTTP 503" in result.stderr
