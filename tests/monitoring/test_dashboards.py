import itertools
import json
import re

import pytest
import yaml

from tests.monitoring import promql
from tests.monitoring.conftest import CHART

FILES = sorted((CHART / "dashboards").glob("*.json"))
ALL = {path.stem: json.loads(path.read_text("utf-8")) for path in FILES}
BOARDS = {name: board for name, board in ALL.items() if name != "market"}  # that one asks the API: test_market.py
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
PHASES = {"Running": "green", "Degraded": "orange", "Failed": "red"}
each_board = pytest.mark.parametrize("name", BOARDS)


def panels(name: str) -> list[dict]:
    return [panel for panel in BOARDS[name]["panels"] if panel["type"] != "row"]


def targets(name: str) -> list[dict]:
    return [target for panel in panels(name) for target in panel["targets"]]


def queries(name: str) -> list[str]:
    """As Prometheus is asked: with what Grafana puts in."""
    return [target["expr"].replace("$__rate_interval", "1m").replace("$", "") for target in targets(name)]


def variables(name: str) -> dict[str, dict]:
    return {variable["name"]: variable for variable in BOARDS[name]["templating"]["list"]}


def test_there_is_a_dashboard_for_the_platform_for_a_feed_for_the_operator_and_for_the_market():
    assert set(ALL) == {"platform", "feed", "operator", "market"}


@each_board
def test_prometheus_takes_every_query(name, promtool, tmp_path):
    rules = [{"record": f"panel:{at}", "expr": query} for at, query in enumerate(queries(name))]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": name, "rules": rules}]}), "utf-8")
    promtool("check", "rules", file)


@each_board
def test_a_query_reads_what_the_processes_show(name, known):
    assert [found for query in queries(name) for found in promql.undeclared(query, known)] == []


@each_board
def test_a_legend_names_only_labels_that_the_query_gives(name):
    for target in targets(name):
        told = set(re.findall(r"\{\{(\w+)\}\}", target.get("legendFormat", "")))
        assert told <= promql.result_labels(target["expr"]), target


@each_board
def test_a_query_asks_only_for_what_is_chosen(name, known):
    for query in queries(name):
        for metric, matchers in re.findall(r"(k2_\w+)(\{[^}]*\})?", query):
            for label in {"exchange", "feed"} & known[metric]:
                assert f'{label}=~"{label}"' in matchers, query


@each_board
def test_the_data_source_is_chosen_and_never_fixed(name):
    assert variables(name)["datasource"] == {
        "name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus",
    }  # fmt: skip
    assert all(panel["datasource"] == SOURCE for panel in panels(name))
    assert all(found["datasource"] == SOURCE for found in variables(name).values() if found["type"] == "query")


@each_board
def test_feeds_are_chosen_from_what_the_processes_show(name, known):
    chosen = variables(name)
    assert set(chosen) == {"datasource", "exchange", "feed"}
    for label in ("exchange", "feed"):
        metric, given = re.fullmatch(r"label_values\((.*), (\w+)\)", chosen[label]["query"]).groups()
        assert given == label
        assert label in known[re.match(r"\w+", metric)[0]]


@pytest.mark.parametrize("name", ALL)
def test_panels_have_a_unit_and_a_place_of_their_own(name):
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


def test_no_metric_is_left_off_the_dashboards(known):
    shown = {family(metric) for name in BOARDS for query in queries(name) for metric in promql.names(query)}
    assert shown == {family(metric) for metric in known}


def family(metric: str) -> str:
    """A histogram is several metrics."""
    return re.sub(r"_(bucket|count|sum)$", "", metric)


@pytest.mark.parametrize("name", ALL)
def test_a_dashboard_is_known_by_its_name_and_of_a_form_that_grafana_knows(name):
    assert ALL[name]["uid"] == f"k2-{name}"
    assert ALL[name]["schemaVersion"] == 42
    assert "id" not in ALL[name]


@pytest.mark.parametrize("name", ALL)
def test_a_number_has_colours_of_its_own_and_not_grafanas_red_above_eighty(name):
    for panel in ALL[name]["panels"]:
        if panel["type"] == "stat":
            assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"], panel["title"]


@pytest.mark.parametrize("name", ALL)
def test_a_phase_has_the_same_colour_everywhere(name):
    found = {phase: set(colours) for phase, colours in _colours(ALL[name]).items()}
    assert all(found.get(phase, {colour}) == {colour} for phase, colour in PHASES.items()), found
    asked = [
        panel
        for panel in ALL[name]["panels"]
        if "k2_feed_phase" in json.dumps(panel) and "{{phase}}" in json.dumps(panel)
    ]
    for panel in asked:
        assert PHASES.keys() <= _colours({"panels": [panel]}).keys(), panel["title"]


def _colours(board: dict) -> dict[str, list[str]]:
    """The colours that a dashboard gives to what it names: by overrides, and by mappings of values."""
    found: dict[str, list[str]] = {}
    for panel in board["panels"]:
        for rule in panel.get("fieldConfig", {}).get("overrides", []):
            for given in rule["properties"]:
                if given["id"] == "color":
                    found.setdefault(rule["matcher"]["options"], []).append(given["value"]["fixedColor"])
                elif given["id"] == "mappings":
                    for name, shown in given["value"][0]["options"].items():
                        found.setdefault(name, []).append(shown["color"])
    return found
