"""The dashboards in a real Grafana: every panel shows data."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.console.browser import PROGRAM, Page, browser
from tests.e2e.harness import eventually
from tests.monitoring import grafana
from tests.monitoring.conftest import CHART

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

BOARDS = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted((CHART / "dashboards").glob("*.json"))}
WIDTH = 1400
OF_CHANNELS = {
    "Spread, by symbol",
    "Symbols by verdict",
    "Quotes and book messages",
    "Losses",
}  # no feed may record them
CELL, MARGIN = 38, 32  # pixels: a row of Grafana's grid with its gap, and the outer margin
READ = """
Object.fromEntries([...document.querySelectorAll('[data-testid^="data-testid Panel header "]')].map((panel) => [
  panel.dataset.testid.slice('data-testid Panel header '.length),
  {
    words: panel.innerText,
    failed: panel.querySelector('[data-testid="data-testid Panel status error"]') !== null,
    drawn: panel.querySelector('canvas, [role="table"] [role="row"]') !== null,
  },
]))
"""


class GrafanaPage(NamedTuple):
    """A browser and the URL of Grafana."""

    page: Page
    url: str


@pytest.fixture(scope="module")
def grafana_page(cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GrafanaPage]:
    if not grafana.HOME:
        pytest.skip("K2_GRAFANA is not set; it names the home of a Grafana with the Infinity plugin in data/plugins")
    if not PROGRAM:
        pytest.skip("Chromium is not in PATH")
    folder, key = tmp_path_factory.mktemp("grafana"), cluster.secret("k2-query-keys")["key"]
    with (
        cluster.port_forward("svc/prometheus-operated", 9090, "monitoring") as prometheus,
        cluster.port_forward("svc/k2-query", 8000) as api,
        grafana.serving(folder, f"http://{prometheus}", f"http://{api}", key) as url,
        browser(folder / "chromium", WIDTH, 900) as page,
    ):
        yield GrafanaPage(page, url)


def titles(name: str) -> set[str]:
    """Return the panel titles with the default values of the variables."""
    chosen = {
        variable["name"]: variable["current"]["value"]
        for variable in BOARDS[name]["templating"]["list"]
        if "current" in variable
    }
    panel_titles = {panel["title"] for panel in BOARDS[name]["panels"] if panel["type"] != "row"}
    for variable, value in chosen.items():
        panel_titles = {title.replace(f"${variable}", value) for title in panel_titles}
    return panel_titles


def is_empty(title: str, panel: dict[str, Any]) -> bool:
    """Return whether a panel shows only its title, or reports no data."""
    words = panel["words"].replace(title, "").strip()
    return "No data" in words or not (words or panel["drawn"])


@pytest.mark.parametrize("name", BOARDS)
def test_every_panel_shows_data(grafana_page, tmp_path, name):
    page, url = grafana_page
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in BOARDS[name]["panels"])
    size = {"width": WIDTH, "height": rows * CELL + MARGIN, "deviceScaleFactor": 1, "mobile": False}
    page.send("Emulation.setDeviceMetricsOverride", **size)
    page.errors.clear()
    page.open(f"{url}/d/k2-{name}?kiosk&from=now-15m&to=now&refresh=1m")
    missing: dict[str, str] = {}

    def shown() -> bool:
        panels = page.run(READ)
        missing.clear()
        missing.update(dict.fromkeys(titles(name) - panels.keys(), "absent"))
        filled = panels.keys() - OF_CHANNELS
        missing.update({title: panels[title]["words"] for title in filled if is_empty(title, panels[title])})
        missing.update({title: "an error" for title, panel in panels.items() if panel["failed"]})
        return not missing

    try:
        eventually("every panel shows data", shown, timeout=180)
    except AssertionError as error:
        raise AssertionError(f"{error}: {missing}") from None
    finally:
        page.picture(Path(os.environ.get("K2_PICTURES", tmp_path)) / f"grafana-{name}.png")
    assert page.errors == []
