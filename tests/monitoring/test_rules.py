import re
from pathlib import Path

import pytest
import yaml

from tests.monitoring import promql
from tests.monitoring.conftest import CHART

RULES = CHART / "rules/k2.yaml"
TESTS = Path(__file__).with_name("rules_test.yaml")
DOCS = Path(__file__).parents[2] / "docs"
SITE = "https://k2-market-data.github.io/k2/runbooks/"
# Found by the words of a message or by a command, and not by a number.
WITHOUT_ALERT = {"audit-findings", "broken-checkpoint", "disk-full", "expired-snapshot"}

ALERTS = {
    rule["alert"]: rule for group in yaml.safe_load(RULES.read_text("utf-8"))["groups"] for rule in group["rules"]
}
each_alert = pytest.mark.parametrize("alert", ALERTS)


def page(alert: str) -> str:
    """K2FeedDown: feed-down."""
    return re.sub(r"(?<!^)([A-Z])", r"-\1", alert.removeprefix("K2")).lower()


def outcomes() -> dict[str, set[bool]]:
    """Whether rules_test.yaml sees an alert fire, sees it silent, or both."""
    found: dict[str, set[bool]] = {alert: set() for alert in ALERTS}
    for test in yaml.safe_load(TESTS.read_text("utf-8"))["tests"]:
        for check in test["promql_expr_test"]:
            found[re.search(r'alertname="(\w+)"', check["expr"])[1]].add(bool(check["exp_samples"]))
        for check in test.get("alert_rule_test", ()):
            found[check["alertname"]].add(bool(check["exp_alerts"]))
    return found


def test_prometheus_takes_the_rules(promtool):
    promtool("check", "rules", "--lint=all", "--lint-fatal", RULES)


def test_each_alert_fires_when_it_should_and_only_then(promtool):
    promtool("test", "rules", TESTS)


@each_alert
def test_an_alert_is_seen_to_fire_and_seen_to_be_silent(alert):
    assert outcomes()[alert] == {True, False}


@each_alert
def test_an_alert_reads_what_the_processes_show(alert, known):
    assert not list(promql.undeclared(ALERTS[alert]["expr"], known))


@each_alert
def test_an_alert_says_how_grave_it_is_what_is_wrong_and_what_to_do(alert):
    rule = ALERTS[alert]
    assert rule["labels"] in ({"severity": "critical"}, {"severity": "warning"})
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["summary"] != rule["annotations"]["description"]


@each_alert
def test_what_an_alert_says_names_only_labels_that_it_has(alert):
    rule = ALERTS[alert]
    told = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
    assert told <= promql.result_labels(rule["expr"])


@each_alert
def test_an_alert_leads_to_its_runbook(alert):
    assert ALERTS[alert]["annotations"]["runbook_url"] == f"{SITE}{page(alert)}/"
    text = (DOCS / f"runbooks/{page(alert)}.md").read_text("utf-8")
    assert f"`{alert}`" in text


def test_a_runbook_belongs_to_an_alert_and_stands_in_the_lists():
    pages = {path.stem for path in (DOCS / "runbooks").glob("*.md")} - {"index"}
    assert pages == {page(alert) for alert in ALERTS} | WITHOUT_ALERT
    index = (DOCS / "runbooks/index.md").read_text("utf-8")
    assert set(re.findall(r"\(([\w-]+)\.md\)", index)) == pages
    navigation = (DOCS.parent / "mkdocs.yml").read_text("utf-8")
    assert set(re.findall(r": runbooks/([\w-]+)\.md", navigation)) == pages


def test_the_list_of_alerts_is_the_rules():
    rows = re.findall(r"^\| `(K2\w+)` \| (\w+) \|", (DOCS / "how-to/alerts.md").read_text("utf-8"), re.MULTILINE)
    assert rows == [(alert, rule["labels"]["severity"]) for alert, rule in ALERTS.items()]
