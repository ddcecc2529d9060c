"""Run a local Grafana with K2's dashboards and the documented data sources."""

import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import httpx2
import yaml

from k2.cli.embedded import ports
from tests.monitoring.conftest import CHART

HOME: Final = os.environ.get("K2_GRAFANA", "")
PAGE: Final = Path(__file__).parents[2] / "docs/how-to/grafana.md"
_TIMEOUT: Final = 120.0  # seconds
_INFINITY: Final = "yesoreyeram-infinity-datasource"


@contextmanager
def serving(folder: Path, prometheus: str, api: str, key: str) -> Iterator[str]:
    """Run the Grafana in `HOME` with a Prometheus and an API as data sources; yield its URL."""
    _provision(folder / "provisioning", prometheus, api)
    settings = {
        "SERVER_HTTP_ADDR": "127.0.0.1", "SERVER_HTTP_PORT": str(port := ports.free()),
        "PATHS_DATA": folder, "PATHS_LOGS": folder, "PATHS_PROVISIONING": folder / "provisioning",
        "PATHS_PLUGINS": f"{HOME}/data/plugins", "PLUGINS_ALLOW_LOADING_UNSIGNED_PLUGINS": _INFINITY,
        "AUTH_ANONYMOUS_ENABLED": "true", "AUTH_ANONYMOUS_ORG_ROLE": "Viewer", "ANALYTICS_ENABLED": "false",
        "ANALYTICS_REPORTING_ENABLED": "false", "ANALYTICS_CHECK_FOR_UPDATES": "false",
    }  # fmt: skip
    env = os.environ | {f"GF_{name}": str(value) for name, value in settings.items()} | {"K2_KEY": key}
    words = [f"{HOME}/bin/grafana", "server", "--homepath", HOME]
    with (
        (folder / "grafana.log").open("wb") as log,
        subprocess.Popen(words, env=env, stdout=log, stderr=log) as process,
    ):
        try:
            _healthy(process, url := f"http://127.0.0.1:{port}", folder / "grafana.log")
            yield url
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()


def documented() -> dict[str, Any]:
    """Return the documented values for Grafana's chart."""
    block = re.search(r"```yaml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert block, f"no YAML block in {PAGE.name}"
    values: dict[str, Any] = yaml.safe_load(block[1])
    return values


def _provision(folder: Path, prometheus: str, api: str) -> None:
    sources = documented()["datasources"]["datasources.yaml"]
    for source in sources["datasources"]:
        source |= {"url": api, "jsonData": source["jsonData"] | {"allowedHosts": [api]}}
    sources["datasources"].append({"name": "Prometheus", "type": "prometheus", "url": prometheus})
    boards = {"name": "K2", "type": "file", "options": {"path": str(CHART / "dashboards")}}
    for kind, document in {"datasources": sources, "dashboards": {"apiVersion": 1, "providers": [boards]}}.items():
        (folder / kind).mkdir(parents=True)
        (folder / kind / "k2.yaml").write_text(yaml.safe_dump(document), "utf-8")


def _healthy(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + _TIMEOUT
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(httpx2.HTTPError):
            if httpx2.get(f"{url}/api/health").status_code == httpx2.codes.OK:
                return
        time.sleep(0.3)
    raise AssertionError(f"Grafana did not start: {log.read_text('utf-8')[-2000:]}")
