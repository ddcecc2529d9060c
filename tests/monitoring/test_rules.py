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
# Runbooks for error messages and commands, which no metric detects.
WITHOUT_ALERT = {"audit-findings", "broken-checkpoint", "disk-full", "expired-snapshot"}

ALERTS = {
    rule["alert"]: rule for group in yaml.safe_load(RULES.read_text("utf-8"))["groups"] for rule in group["rules"]
}
each_alert = pytest.mark.parametrize("alert", ALERTS)


def page(alert: str) -> str:
    """Return the runbook page of an alert: feed-down for K2FeedDown."""
    return re.sub(r"(?<!^)([A-Z])", r"-\1", alert.removeprefix("K2")).lower()


def outcomes() -> dict[str, set[bool]]:
    """Return for each alert whether rules_test.yaml has it fire, stay silent, or both."""
    results: dict[str, set[bool]] = {alert: set() for alert in ALERTS}
    for test in yaml.safe_load(TESTS.read_text("utf-8"))["tests"]:
        for check in test["promql_expr_test"]:
            results[re.search(r'alertname="(\w+)"', check["expr"])[1]].add(bool(check["exp_samples"]))
        for check in test.get("alert_rule_test", ()):
            results[check["alertname"]].add(bool(check["exp_alerts"]))
    return results


def test_promtool_accepts_the_rules(promtool):
    promtool("check", "rules", "--lint=all", "--lint-fatal", RULES)


def test_the_rule_tests_pass(promtool):
    promtool("test", "rules", TESTS)


@each_alert
def test_the_rule_tests_have_each_alert_firing_and_silent(alert):
    assert outcomes()[alert] == {True, False}


@each_alert
def test_an_alert_uses_only_exported_metrics(alert, exported):
    assert not list(promql.undeclared(ALERTS[alert]["expr"], exported))


@each_alert
def test_an_alert_has_severity_summary_description_and_runbook(alert):
    rule = ALERTS[alert]
    assert rule["labels"] in ({"severity": "critical"}, {"severity": "warning"})
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["summary"] != rule["annotations"]["description"]


@each_alert
def test_annotations_use_only_labels_of_the_alert(alert):
    rule = ALERTS[alert]
    labels = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
    assert labels <= promql.result_labels(rule["expr"])


@each_alert
def test_an_alert_links_to_its_runbook(alert):
    assert ALERTS[alert]["annotations"]["runbook_url"] == f"{SITE}{page(alert)}/"
    text = (DOCS / f"runbooks/{page(alert)}.md").read_text("utf-8")
    assert f"`{alert}`" in text


def test_every_runbook_has_an_alert_and_is_listed():
    pages = {path.stem for path in (DOCS / "runbooks").glob("*.md")} - {"index"}
    assert pages == {page(alert) for alert in ALERTS} | WITHOUT_ALERT
    index = (DOCS / "runbooks/index.md").read_text("utf-8")
    assert set(re.findall(r"\(([\w-]+)\.md\)", index)) == pages
    navigation = (DOCS.parent / "mkdocs.yml").read_text("utf-8")
    assert set(re.findall(r": runbooks/([\w-]+)\.md", navigation)) == pages


def test_the_documented_alerts_are_the_rules():
    rows = re.findall(r"^\| `(K2\w+)` \| (\w+) \|", (DOCS / "how-to/alerts.md").read_text("utf-8"), re.MULTILINE)
    assert rows == [(alert, rule["labels"]["severity"]) for alert, rule in ALERTS.items()]
