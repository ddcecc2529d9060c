"""Pages: at any page size, the pages add up to the whole result."""

from datetime import timedelta
from typing import Any

import pytest

from k2.query.engine import Engine
from k2.query.sql.trade_sql import TRADE_LIST
from tests.unit.query.conftest import NOON, Append, trade

ROWS = [
    trade(1, 0),
    trade(10, 1),
    trade(9, 1),
    trade("b", 1),
    trade("a", 1),
    trade(9, 1, exchange="KRAKEN"),
    trade(9, 1, symbol="ETHUSDT"),
    trade(2, 7200),
]


def pages(engine: Engine, size: int, **query: Any) -> list[list[dict[str, Any]]]:
    result, beyond = [], None
    while page := engine.trades(limit=size, beyond=beyond, **query).to_pylist():
        result.append(page)
        last = page[-1] if "start" in query else page[0]
        beyond = TRADE_LIST.position_of(last)
    return result


@pytest.mark.parametrize("size", [1, 2, 3, 100])
@pytest.mark.parametrize("end", [None, NOON + timedelta(seconds=2)])
def test_pages_from_a_start_on_add_up_to_the_whole_result(engine: Engine, append: Append, size: int, end: Any) -> None:
    append(ROWS)
    query = {"start": NOON, "end": end}
    whole = engine.trades(**query).to_pylist()
    assert len(whole) == (8 if end is None else 7)
    assert [row for page in pages(engine, size, **query) for row in page] == whole


@pytest.mark.parametrize("size", [1, 3, 100])
def test_pages_without_a_start_go_back_in_time(engine: Engine, append: Append, size: int) -> None:
    append(ROWS)
    result = pages(engine, size, end=NOON + timedelta(hours=3))
    assert result[0][-1]["trade_id"] == "2"
    assert [row for page in reversed(result) for row in page] == engine.trades().to_pylist()
