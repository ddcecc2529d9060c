"""Books read from Gold: by the engine, the API and the command line."""

import json
from contextlib import closing
from dataclasses import asdict
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from k2.cli.commands.markets.book import _levels
from k2.cli.embedded.layout import Layout
from k2.cli.main import app
from k2.query.book.reader import BookQuery
from k2.query.book.reconstruction import BookMessage
from k2.query.engine import Engine
from k2.query.errors import BadQuery
from k2.query.iceberg import data_files
from k2.schemas.tables import GOLD_BOOK_TABLE
from tests.unit.query.api.conftest import api, serve
from tests.unit.query.book.exchange import STEP, Exchange
from tests.unit.query.conftest import NOON, Append
from tests.unit.query.quotes import store

__all__ = ["api", "serve"]

_MESSAGES = 30
_HOUR = timedelta(hours=1)


def row(message: BookMessage, later: timedelta = timedelta(), *, timed: bool = True, **fields: Any) -> dict[str, Any]:
    """Return a row of Gold."""
    values = asdict(message)
    time = values.pop("time") + later
    sides = {
        side: [{"price": price, "quantity": quantity} for price, quantity in values[side]] for side in ("bids", "asks")
    }
    return values | sides | {
        "kind": message.kind.value,
        "verdict": message.verdict.value,
        "symbol": "BTCUSDT",
        "exchange": "BINANCE",
        "timestamp": time if timed else None,
        "ingestion_timestamp": time,
        "clock_offset_ms": None,
        "gold_ingestion_timestamp": time,
        "exchange_date": time.date(),
        "exchange_hour": time.hour,
    } | fields  # fmt: skip


@pytest.fixture
def exchange(layout: Layout, append: Append) -> Exchange:
    """An exchange whose messages, after a snapshot, and an hour later another snapshot, are in Gold."""
    exchange = Exchange(Random(4), _MESSAGES)
    messages = list(exchange.rows("a", {0}, ()))
    store(layout, [row(each, timed=each.ordinal % 3 > 0) for each in messages], GOLD_BOOK_TABLE)
    store(layout, [row(each, _HOUR, connection="b") for each in messages], GOLD_BOOK_TABLE)
    return exchange


def read(engine: Engine, at: datetime, **options: Any) -> dict[str, Any]:
    (book,) = engine.books_reader(BookQuery.at("btcusdt", None, at, **options)).read_all().to_pylist()
    result: dict[str, Any] = book
    return result


def units(levels: list[dict[str, Any]]) -> tuple[tuple[int, int], ...]:
    return tuple((int(level["price"].scaleb(12)), int(level["quantity"].scaleb(12))) for level in levels)


@pytest.mark.parametrize("number", [0, 1, 7, _MESSAGES])
def test_the_book_at_an_instant_is_the_exchange_s(engine: Engine, exchange: Exchange, number: int) -> None:
    at = NOON + number * STEP + STEP / 2
    book = read(engine, at)
    assert (units(book["bids"]), units(book["asks"])) == exchange.truth(at)
    assert (book["at"], book["time"], book["age_ms"], book["snapshot_time"]) == (at, NOON + number * STEP, 50, NOON)
    assert (book["exchange"], book["symbol"], book["last_id"]) == ("BINANCE", "BTCUSDT", exchange.ids[number])
    assert read(engine, at, depth=2)["bids"] == book["bids"][:2]


def test_an_old_snapshot_is_looked_for_as_far_back_as_it_is(engine: Engine, exchange: Exchange) -> None:
    book = read(engine, NOON + 50 * _HOUR)
    assert book["connections"] == ["b"]
    assert book["snapshot_time"] == NOON + _HOUR


@pytest.mark.parametrize(("name", "merged"), [("BINANCE", True), ("OKX", True), ("BYBIT", False), ("KRAKEN", False)])
def test_connections_close_each_other_s_losses_only_where_the_exchange_s_ids_are_everyone_s(
    layout: Layout, append: Append, engine: Engine, name: str, merged: bool
) -> None:
    exchange = Exchange(Random(4), _MESSAGES)
    rows = [*exchange.rows("a", {0}, {5, 9}), *exchange.rows("b", {0}, {7, 12})]
    store(layout, [row(each, exchange=name) for each in rows], GOLD_BOOK_TABLE)
    at = NOON + _MESSAGES * STEP
    book = read(engine, at)
    assert (book["connections"] == ["a", "b"]) is merged
    assert (book["verdict"] == "verified") is merged
    assert not merged or (units(book["bids"]), units(book["asks"])) == exchange.truth(at)


def test_only_the_files_of_the_hours_needed_are_read(
    engine: Engine, exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    files: set[str] = set()
    inline = data_files.inline_view

    def inlined(cursor: Any, name: str, plan: Any, statement: str) -> str:
        files.update(plan.files)
        return inline(cursor, name, plan, statement)

    monkeypatch.setattr(data_files, "inline_view", inlined)
    read(engine, NOON + _HOUR + timedelta(minutes=30))
    assert len(files) == 1
    assert "exchange_hour=13" in files.pop()


def test_a_range_has_a_book_at_each_interval(engine: Engine, exchange: Exchange) -> None:
    start, second = NOON - timedelta(seconds=2), timedelta(seconds=1)
    query = BookQuery.over("BTCUSDT", "binance", start, NOON + 5 * second, second)
    books = engine.books_reader(query).read_all().to_pylist()
    assert [book["at"] for book in books] == [NOON + number * second for number in range(5)]
    assert [(units(book["bids"]), units(book["asks"])) for book in books] == [
        exchange.truth(NOON + number * second) for number in range(5)
    ]
    with pytest.raises(BadQuery, match="more than 100000"):
        BookQuery.over("BTCUSDT", None, NOON, NOON + timedelta(days=2), second)


def test_an_instant_before_the_first_snapshot_says_from_when_on_there_are_books(
    engine: Engine, exchange: Exchange
) -> None:
    with pytest.raises(BadQuery, match=r"at 2026-01-31T11:59:59.*: books begin at 2026-01-31T12:00:00\.000000Z"):
        read(engine, NOON - timedelta(seconds=1))
    with pytest.raises(BadQuery, match='no book of "NOSUCH" is stored'):
        engine.books_reader(BookQuery.at("NOSUCH", None, NOON))


def test_books_are_found_in_every_spelling_and_an_unknown_symbol_names_the_nearest(
    engine: Engine, exchange: Exchange, api: TestClient
) -> None:
    query = {"symbol": "btc/usdt", "at": "2026-01-31T12:00:00Z"}
    assert [book["symbol"] for book in api.get("/v1/book", params=query).json()["data"]] == ["BTCUSDT"]
    unknown = api.get("/v1/book", params=query | {"symbol": "BTCUSTD"}).json()["detail"]
    assert unknown == 'no book of "BTCUSTD" is stored; did you mean BTCUSDT?'
    assert "did you mean depth?" in api.get("/v1/book", params=query | {"dept": "1"}).json()["detail"]
    assert "did you mean exchange?" in api.get("/v1/quotes", params={"exchang": "okx"}).json()["detail"]
    with pytest.raises(BadQuery, match='no book of "BTCUSDT" on OKX is stored'):
        engine.books_reader(BookQuery.at("BTCUSDT", "okx", NOON))


def test_the_api_sends_exact_texts(exchange: Exchange, api: TestClient) -> None:
    query = {"symbol": "BTCUSDT", "at": "2026-01-31T12:00:00Z", "depth": "1"}
    (book,) = api.get("/v1/book", params=query).json()["data"]
    assert book["bids"] == [{"price": "1", "quantity": "0.001"}]
    assert book["verdict"] == "verified"
    over = {"symbol": "BTCUSDT", "start": "2026-01-31T12:00:00Z", "end": "2026-01-31T12:00:03Z", "interval": "1s"}
    assert len(api.get("/v1/book", params=over).json()["data"]) == 3
    assert "books begin at" in api.get("/v1/book", params=query | {"at": "2026-01-01T00:00:00Z"}).json()["detail"]
    assert "at for one book" in api.get("/v1/book", params=over | {"at": "2026-01-31T12:00:00Z"}).json()["detail"]


def test_the_command_prints_levels_beside_each_other_or_whole_books(layout: Layout, exchange: Exchange) -> None:
    command = ["book", "BTCUSDT", "--at", "2026-01-31T12:00:00Z", "--depth", "2", "--data", str(layout.root)]
    table = CliRunner().invoke(app, command)
    assert (table.exit_code, len(table.stdout.splitlines()) > 2) == (0, True)
    with closing(Engine(layout.platform())) as engine:
        levels = _levels(engine.books_reader(BookQuery.at("BTCUSDT", None, NOON, depth=2))).read_all().to_pylist()
    assert [(row["bid"], row["ask"]) for row in levels] == [
        (Decimal(1), Decimal("1.1")), (Decimal("0.99"), Decimal("1.11"))
    ]  # fmt: skip
    (book,) = map(json.loads, CliRunner().invoke(app, [*command, "--format", "json"]).stdout.splitlines())
    assert [level["price"] for level in book["asks"]] == ["1.1", "1.11"]
