"""The market dashboard: its requests succeed, and the responses have the columns of its panels."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from starlette.testclient import TestClient

from k2.cli.embedded.layout import Layout
from k2.query.api.app import create
from k2.query.api.metrics import Metrics
from k2.query.api.settings import ApiSettings
from k2.schemas.tables import GOLD_TABLE
from tests.console.lake import MARKETS, Lake, trade
from tests.monitoring.conftest import CHART

BOARD = json.loads((CHART / "dashboards/market.json").read_text("utf-8"))
INFINITY = {"type": "yesoreyeram-infinity-datasource", "uid": "${api}"}
PROMETHEUS = {"type": "prometheus", "uid": "${datasource}"}


def panels(source: dict[str, str]) -> list[dict[str, Any]]:
    return [panel for panel in BOARD["panels"] if panel["datasource"] == source]


REQUESTS = [(panel, target) for panel in panels(INFINITY) for target in panel["targets"]]
each_request = pytest.mark.parametrize(("panel", "target"), REQUESTS, ids=[panel["title"] for panel, _ in REQUESTS])


@pytest.fixture
def api(tmp_path: Path) -> Iterator[TestClient]:
    lake = Lake(Layout.at(tmp_path / "data"))
    times = [datetime.now(UTC) - timedelta(minutes=10) + timedelta(seconds=number) for number in range(300)]
    lake.append(GOLD_TABLE, [trade(MARKETS[0], number, at, 64_000 + number, 0.5) for number, at in enumerate(times)])
    with TestClient(create(ApiSettings.read(), lake.layout.platform()), base_url="http://localhost") as client:
        yield client


def parameters(target: dict[str, Any]) -> dict[str, str]:
    """Return the parameters with Grafana's variables filled in, without hybrid, which needs Kafka."""
    now = datetime.now(UTC)
    variables = {
        variable["name"]: variable["current"]["value"]
        for variable in BOARD["templating"]["list"]
        if "current" in variable
    }
    variables |= {"__from:date:iso": (now - timedelta(hours=1)).isoformat(), "__to:date:iso": now.isoformat()}
    params = {pair["key"]: pair["value"] for pair in target["url_options"]["params"]}
    assert params.pop("hybrid") == "true"
    return {name: re.sub(r"\$\{([^}]+)\}", lambda match: variables[match[1]], value) for name, value in params.items()}


@each_request
def test_a_request_of_a_panel_returns_its_columns(api: TestClient, panel: dict, target: dict):
    response = api.get(target["url"], params=parameters(target))
    assert response.status_code == 200, response.text
    rows = response.json()[target["root_selector"]]
    assert len(rows) >= 5
    for column in target["columns"]:
        value = rows[-1][column["selector"]]
        read = {"number": float, "string": str, "timestamp": datetime.fromisoformat}[column["type"]]
        assert read(value), column


@each_request
def test_a_panel_uses_only_its_columns(panel: dict, target: dict):
    columns = {column["text"] for column in target["columns"]}
    assert set(panel.get("options", {}).get("fields", {}).values()) <= columns
    named = {rule["matcher"]["options"] for rule in panel["fieldConfig"]["overrides"]}
    assert named <= columns
    if panel["type"] == "stat":
        assert panel["options"]["reduceOptions"]["fields"].strip("/^$") in columns


def test_it_refreshes_every_five_seconds_and_data_sources_are_variables():
    assert BOARD["refresh"] == "5s"
    assert {panel["type"] for panel in panels(INFINITY)} == {"stat", "timeseries", "candlestick", "table"}
    assert len(panels(INFINITY)) + len(panels(PROMETHEUS)) == len(BOARD["panels"])
    sources = {
        variable["name"]: variable["query"]
        for variable in BOARD["templating"]["list"]
        if variable["type"] == "datasource"
    }
    assert sources == {"api": "yesoreyeram-infinity-datasource", "datasource": "prometheus"}


def test_promtool_accepts_every_query_and_every_api_metric_is_used(promtool, tmp_path: Path):
    queries = [
        target["expr"].replace("$__rate_interval", "1m") for panel in panels(PROMETHEUS) for target in panel["targets"]
    ]
    rules = [{"record": f"panel:{at}", "expr": query} for at, query in enumerate(queries)]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "market", "rules": rules}]}), "utf-8")
    promtool("check", "rules", file)
    metrics = {family.name for family in Metrics().registry.collect()}
    used = {re.sub(r"_(bucket|total)$", "", name) for query in queries for name in re.findall(r"k2_\w+", query)}
    assert used == metrics
