"""The dashboard that asks the HTTP API: what its panels ask is answered, and what they show is in the answer."""

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


ASKING = [(panel, target) for panel in panels(INFINITY) for target in panel["targets"]]
each_question = pytest.mark.parametrize(("panel", "target"), ASKING, ids=[panel["title"] for panel, _ in ASKING])


@pytest.fixture
def api(tmp_path: Path) -> Iterator[TestClient]:
    lake = Lake(Layout.at(tmp_path / "data"))
    times = [datetime.now(UTC) - timedelta(minutes=10) + timedelta(seconds=number) for number in range(300)]
    lake.append(GOLD_TABLE, [trade(MARKETS[0], number, at, 64_000 + number, 0.5) for number, at in enumerate(times)])
    with TestClient(create(ApiSettings.read(), lake.layout.platform()), base_url="http://localhost") as client:
        yield client


def asked(target: dict[str, Any]) -> dict[str, str]:
    """The parameters, with what Grafana puts in for its variables. There is no Kafka here to be hybrid with."""
    now = datetime.now(UTC)
    put = {
        variable["name"]: variable["current"]["value"]
        for variable in BOARD["templating"]["list"]
        if "current" in variable
    }
    put |= {"__from:date:iso": (now - timedelta(hours=1)).isoformat(), "__to:date:iso": now.isoformat()}
    found = {pair["key"]: pair["value"] for pair in target["url_options"]["params"]}
    assert found.pop("hybrid") == "true"
    return {name: re.sub(r"\$\{([^}]+)\}", lambda match: put[match[1]], value) for name, value in found.items()}


@each_question
def test_what_a_panel_asks_is_answered_and_holds_what_it_shows(api: TestClient, panel: dict, target: dict):
    answer = api.get(target["url"], params=asked(target))
    assert answer.status_code == 200, answer.text
    rows = answer.json()[target["root_selector"]]
    assert len(rows) >= 5
    for column in target["columns"]:
        value = rows[-1][column["selector"]]
        read = {"number": float, "string": str, "timestamp": datetime.fromisoformat}[column["type"]]
        assert read(value), column


@each_question
def test_what_a_panel_names_is_among_its_columns(panel: dict, target: dict):
    columns = {column["text"] for column in target["columns"]}
    assert set(panel.get("options", {}).get("fields", {}).values()) <= columns
    named = {rule["matcher"]["options"] for rule in panel["fieldConfig"]["overrides"]}
    assert named <= columns
    if panel["type"] == "stat":
        assert panel["options"]["reduceOptions"]["fields"].strip("/^$") in columns


def test_it_is_refreshed_every_five_seconds_and_no_source_is_fixed():
    assert BOARD["refresh"] == "5s"
    assert {panel["type"] for panel in panels(INFINITY)} == {"stat", "timeseries", "candlestick", "table"}
    assert len(panels(INFINITY)) + len(panels(PROMETHEUS)) == len(BOARD["panels"])
    sources = {found["name"]: found["query"] for found in BOARD["templating"]["list"] if found["type"] == "datasource"}
    assert sources == {"api": "yesoreyeram-infinity-datasource", "datasource": "prometheus"}


def test_prometheus_takes_every_query_and_the_api_shows_each_metric(promtool, tmp_path: Path):
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
