"""The code of docs/how-to/query-http.md runs as printed."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.query.conftest import Append, trade

Running = Callable[..., str]
PAGE = (Path(__file__).parents[4] / "docs" / "how-to" / "query-http.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture
def url(running: Running, append: Append) -> str:
    append([trade(number, number) for number in range(2500)])
    return running()


def test_the_python_code_of_the_page_runs(url: str) -> None:
    names: dict[str, Any] = {"url": url}
    for block in blocks("python"):
        exec(compile(block, "query-http.md", "exec"), names)
    assert names["trades"].num_rows == names["same"].num_rows == names["again"].num_rows == len(names["rows"]) == 2500
    assert names["vwap"] == 100
    assert names["minutes"].height == 42
    assert names["daily"][0][0] == "BUY"
    assert names["counts"].to_pylist() == [{"symbol": "BTCUSDT", "trades": 2500}]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_shell_code_of_the_page_runs(url: str, tmp_path: Path) -> None:
    (script,) = blocks("bash")
    done = subprocess.run(
        ["bash", "-euc", script.replace("curl -s", "curl -sf")],
        cwd=tmp_path,
        env={**os.environ, "K2_URL": url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert '"trades":2500' in done.stdout
    assert (tmp_path / "btcusdt-5m.csv").read_text("utf-8").startswith("exchange,symbol,open_time,")
