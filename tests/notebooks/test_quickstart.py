"""The notebook of the docs, run against a real API."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from k2.cli.embedded.layout import Layout
from tests.console.lake import Lake, now
from tests.console.serving import serving

FILE = Path(__file__).parents[2] / "docs/notebooks/quickstart.ipynb"


def test_the_file_holds_no_outputs():
    for cell in nbformat.read(FILE, as_version=4).cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@pytest.mark.timeout(900)
def test_every_cell_runs_and_shows_what_the_text_promises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    lake = Lake(Layout.at(tmp_path / "data"))
    lake.fill(now(), hours=2)
    notebook = nbformat.read(FILE, as_version=4)
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.delenv("K2_KEY", raising=False)
    with serving(lake.layout.platform()) as url:
        monkeypatch.setenv("K2_URL", url)
        NotebookClient(notebook, timeout=600, kernel_name="python3", env=dict(os.environ)).execute()
    shown = [
        output["data"]["text/plain"]
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if "data" in output
    ]
    assert "BINANCE" in shown[0]
    assert "complete" in shown[-3]
    assert shown[-2].strip("'").isdigit()
    assert "notional" in shown[-1]
