"""The Python client against a real server."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from k2.cli.embedded.layout import Layout
from k2.query.api import keys
from k2.query.api.keys import Scope
from k2.query.client import ApiError, Client, Unreachable
from tests.unit.query.conftest import NOON, Append, trade
from tests.unit.query.quotes import quote, store

Running = Callable[..., str]
ROWS = [trade(number, number / 10, price=Decimal(number + 1) / 8) for number in range(12_500)]


@pytest.fixture
def k2(running: Running, append: Append) -> Iterator[Client]:
    append(ROWS)
    with Client(running()) as client:
        yield client


def test_a_result_longer_than_a_page_is_complete(k2: Client) -> None:
    table = k2.trades(symbol="BTCUSDT", start=NOON, end=NOON + timedelta(hours=1))
    assert table.column("trade_id").to_pylist() == [str(number) for number in range(12_500)]
    assert table.column("price")[3].as_py() == Decimal("0.50000000")
    assert sum(batch.num_rows for batch in k2.trades_batches(start=NOON)) == 12_500
    assert k2.trades(limit=3).column("trade_id").to_pylist() == ["12497", "12498", "12499"]


def test_tables_become_frames(k2: Client) -> None:
    bars = k2.ohlcv("BTCUSDT", "5m", start=NOON)
    assert list(bars.to_pandas()["trade_count"]) == [3000] * 4 + [500]
    assert pl.from_arrow(bars).height == 5
    assert k2.sql("SELECT count(*) AS n FROM gold_crypto_trades").to_pylist() == [{"n": 12_500}]
    assert k2.symbols().column("trades").to_pylist() == [12_500]
    assert k2.price(at=NOON + timedelta(seconds=10)).column("trade_id").to_pylist() == ["99"]
    assert k2.snapshots().num_rows == 1
    assert (k2.gaps().num_rows, k2.completeness().num_rows) == (0, 0)


def test_quotes_come_whole_and_batch_by_batch(k2: Client, layout: Layout) -> None:
    store(layout, [quote(number, number) for number in range(3)])
    assert k2.quotes(symbol="BTCUSDT", start=NOON).column("bid_price").to_pylist()[1] == Decimal("100.01")
    assert sum(batch.num_rows for batch in k2.quotes_batches(start=NOON)) == 3


def test_an_error_of_the_api_is_an_exception(k2: Client) -> None:
    with pytest.raises(ApiError, match="no trade of") as raised:
        k2.trades(symbol="NOSUCH")
    assert raised.value.status == 400


def test_a_key_is_sent(running: Running, append: Append, tmp_path: Path) -> None:
    append(ROWS[:3])
    key = keys.add(tmp_path / "keys.yaml", "one", [Scope.READ])
    url = running(keys=tmp_path / "keys.yaml")
    with Client(url, key) as allowed, Client(url) as anonymous:
        assert allowed.trades().num_rows == 3
        with pytest.raises(ApiError, match="an API key is required"):
            anonymous.trades()
        with pytest.raises(ApiError, match="lacks scope sql"):
            allowed.sql("SELECT 1 AS one")


def test_an_address_without_an_api_is_unreachable() -> None:
    with Client("http://127.0.0.1:9") as nobody, pytest.raises(Unreachable, match="did not send a complete response"):
        nobody.trades()
