import itertools
import json
import re

import pytest
import yaml

from tests.monitoring import promql
from tests.monitoring.conftest import CHART

FILES = sorted((CHART / "dashboards").glob("*.json"))
ALL = {path.stem: json.loads(path.read_text("utf-8")) for path in FILES}
BOARDS = {name: board for name, board in ALL.items() if name != "market"}  # its data source is the API: test_market.py
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
PHASES = {"Running": "green", "Degraded": "orange", "Failed": "red"}
each_board = pytest.mark.parametrize("name", BOARDS)


def panels(name: str) -> list[dict]:
    return [panel for panel in BOARDS[name]["panels"] if panel["type"] != "row"]


def targets(name: str) -> list[dict]:
    return [target for panel in panels(name) for target in panel["targets"]]


def queries(name: str) -> list[str]:
    """Return the queries of a dashboard with Grafana's variables filled in."""
    return [target["expr"].replace("$__rate_interval", "1m").replace("$", "") for target in targets(name)]


def variables(name: str) -> dict[str, dict]:
    return {variable["name"]: variable for variable in BOARDS[name]["templating"]["list"]}


def test_the_dashboards_are_platform_feed_operator_and_market():
    assert set(ALL) == {"platform", "feed", "operator", "market"}


@each_board
def test_promtool_accepts_every_query(name, promtool, tmp_path):
    rules = [{"record": f"panel:{at}", "expr": query} for at, query in enumerate(queries(name))]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": name, "rules": rules}]}), "utf-8")
    promtool("check", "rules", file)


@each_board
def test_a_query_uses_only_exported_metrics(name, exported):
    assert [problem for query in queries(name) for problem in promql.undeclared(query, exported)] == []


@each_board
def test_a_legend_uses_only_labels_of_the_query(name):
    for target in targets(name):
        labels = set(re.findall(r"\{\{(\w+)\}\}", target.get("legendFormat", "")))
        assert labels <= promql.result_labels(target["expr"]), target


@each_board
def test_a_query_filters_by_the_selected_exchange_and_feed(name, exported):
    for query in queries(name):
        for metric, matchers in re.findall(r"(k2_\w+)(\{[^}]*\})?", query):
            for label in {"exchange", "feed"} & exported[metric]:
                assert f'{label}=~"{label}"' in matchers, query


@each_board
def test_the_data_source_is_a_variable(name):
    assert variables(name)["datasource"] == {
        "name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus",
    }  # fmt: skip
    assert all(panel["datasource"] == SOURCE for panel in panels(name))
    assert all(variable["datasource"] == SOURCE for variable in variables(name).values() if variable["type"] == "query")


@each_board
def test_the_variables_list_exported_label_values(name, exported):
    chosen = variables(name)
    assert set(chosen) == {"datasource", "exchange", "feed"}
    for label in ("exchange", "feed"):
        metric, given = re.fullmatch(r"label_values\((.*), (\w+)\)", chosen[label]["query"]).groups()
        assert given == label
        assert label in exported[re.match(r"\w+", metric)[0]]


@pytest.mark.parametrize("name", ALL)
def test_panels_have_a_unit_and_do_not_overlap(name):
    every = ALL[name]["panels"]
    assert len({panel["id"] for panel in every}) == len(every)
    for panel in (panel for panel in every if panel["type"] != "row"):
        assert panel["type"] == "table" or panel["fieldConfig"]["defaults"].get("unit"), panel["title"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    cells = list(itertools.chain.from_iterable(_cells(panel["gridPos"]) for panel in every))
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


def _cells(place: dict[str, int]) -> list[tuple[int, int]]:
    return [(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])]


def test_every_metric_is_on_a_dashboard(exported):
    shown = {family(metric) for name in BOARDS for query in queries(name) for metric in promql.names(query)}
    assert shown == {family(metric) for metric in exported}


def family(metric: str) -> str:
    """Return the name of the metric family of a histogram's series."""
    return re.sub(r"_(bucket|count|sum)$", "", metric)


@pytest.mark.parametrize("name", ALL)
def test_a_dashboard_has_its_uid_and_a_supported_schema_version(name):
    assert ALL[name]["uid"] == f"k2-{name}"
    assert ALL[name]["schemaVersion"] == 42
    assert "id" not in ALL[name]


@pytest.mark.parametrize("name", ALL)
def test_a_stat_panel_has_explicit_thresholds(name):
    for panel in ALL[name]["panels"]:
        if panel["type"] == "stat":
            assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"], panel["title"]


@pytest.mark.parametrize("name", ALL)
def test_a_phase_has_the_same_colour_on_all_panels(name):
    colours_of = {phase: set(colours) for phase, colours in _colours(ALL[name]).items()}
    assert all(colours_of.get(phase, {colour}) == {colour} for phase, colour in PHASES.items()), colours_of
    phase_panels = [
        panel
        for panel in ALL[name]["panels"]
        if "k2_feed_phase" in json.dumps(panel) and "{{phase}}" in json.dumps(panel)
    ]
    for panel in phase_panels:
        assert PHASES.keys() <= _colours({"panels": [panel]}).keys(), panel["title"]


def _colours(board: dict) -> dict[str, list[str]]:
    """Return the colours of a dashboard by name, from overrides and value mappings."""
    colours: dict[str, list[str]] = {}
    for panel in board["panels"]:
        for rule in panel.get("fieldConfig", {}).get("overrides", []):
            for given in rule["properties"]:
                if given["id"] == "color":
                    colours.setdefault(rule["matcher"]["options"], []).append(given["value"]["fixedColor"])
                elif given["id"] == "mappings":
                    for name, shown in given["value"][0]["options"].items():
                        colours.setdefault(name, []).append(shown["color"])
    return colours
