"""The command that initialises a catalog, as the platform chart runs it."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from k2.schemas.channels import CHANNELS, shared_tables

pytestmark = pytest.mark.spark


def _command(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    own = {"K2_CATALOG_URI": f"sqlite:///{folder}/catalog.db", "K2_WAREHOUSE": f"file:{folder}/warehouse"}
    variables = {key: value for key, value in os.environ.items() if not key.startswith("PYSPARK_")} | own | environment
    command = [sys.executable, "-m", "k2.jobs.initialise", "--memory", "512m", "--master", "local[1]"]
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120)


def _tables(folder: Path) -> dict[str, str]:
    with sqlite3.connect(folder / "catalog.db") as catalog:
        return dict(catalog.execute("SELECT table_name, metadata_location FROM iceberg_tables"))


def test_the_first_run_creates_the_shared_tables_and_a_second_changes_nothing(tmp_path: Path):
    first = _command(tmp_path)
    assert first.returncode == 0, first.stderr
    created = _tables(tmp_path)
    assert set(created) == {table.name for table in shared_tables(CHANNELS)}
    second = _command(tmp_path)
    assert second.returncode == 0, second.stderr
    assert _tables(tmp_path) == created


def test_an_unreachable_catalog_exits_with_3_and_one_line(tmp_path: Path):
    done = _command(tmp_path, K2_CATALOG_URI="sqlite:////nowhere/catalog.db")
    assert done.returncode == 3, done.stderr
    assert "the catalog cannot be read" in done.stderr.splitlines()[-1]


def test_an_invalid_url_is_invalid_input(tmp_path: Path):
    done = _command(tmp_path, K2_REGISTRY_URL="registry:8080")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "K2_REGISTRY_URL" in done.stderr
