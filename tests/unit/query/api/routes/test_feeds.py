"""`/v1/feeds`: the current rows of each layer."""

from contextlib import closing
from datetime import timedelta

import pyarrow as pa
import pytest
from starlette.testclient import TestClient

from k2.cli.embedded.layout import Layout
from k2.query.iceberg import catalog, tables
from k2.schemas.channels import TRADES
from tests.unit.query.conftest import NOON, Append, trade


@pytest.mark.parametrize("commits", [0, 1, 3])
def test_a_layers_rows_are_those_of_its_newest_snapshot(api: TestClient, append: Append, layout: Layout, commits: int):
    append([trade(1), trade(2)])
    with closing(catalog.connect(layout.platform())) as opened:
        (table,) = tables.ensure(opened, [TRADES.bronze("binance")])
        for number in range(commits):
            row = {"kafka_timestamp": NOON + timedelta(seconds=number), "offset": number, "partition": 0, "topic": "t"}
            table.append(pa.Table.from_pylist([row], schema=table.schema().as_arrow()))
    answer = api.get("/v1/feeds")
    assert answer.status_code == 200, answer.text
    (about,) = answer.json()["data"]
    assert about["exchange"] == "BINANCE"
    assert {layer: about["layers"][layer]["rows"] for layer in ("bronze", "silver", "gold")} == {
        "bronze": commits,
        "silver": 0,
        "gold": 2,
    }
