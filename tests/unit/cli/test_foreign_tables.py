"""An embedded platform whose tables are in a REST catalog: its folder belongs to that catalog, and to no other."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from k2.cli.embedded import foreign_tables, plan
from k2.cli.embedded.layout import Layout
from k2.cli.main import app
from k2.common.platform import Platform
from k2.common.validation_errors import InvalidSpec

REST = {
    "K2_CATALOG_TYPE": "rest", "K2_CATALOG_URI": "http://catalog:8181", "K2_WAREHOUSE": "s3://lake",
    "K2_CATALOG_USER": "k2", "K2_CATALOG_PASSWORD": "word",
}  # fmt: skip


@pytest.fixture
def rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """A folder in which a platform with a REST catalog has run, in an environment that names the catalog."""
    for name, value in REST.items():
        monkeypatch.setenv(name, value)
    layout = Layout.at(tmp_path)
    foreign_tables.write(layout.foreign_tables, layout.platform())
    return layout


def test_processes_use_the_catalog_that_the_environment_names(rest: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    platform = rest.platform(kafka_port=1234)
    assert (platform.catalog_uri, platform.warehouse) == ("http://catalog:8181", "s3://lake")
    assert platform.checkpoints == f"{rest.root}/checkpoints"
    variables = plan.environment(platform)
    assert not {name for name, value in variables.items() if value == "word"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert Platform.read() == platform


@pytest.mark.parametrize("changes", [{"K2_CATALOG_URI": "http://other"}, {"K2_WAREHOUSE": "s3://other"}])
def test_another_catalog_is_refused(rest: Layout, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str]) -> None:
    for name, value in changes.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InvalidSpec, match=r"set K2_CATALOG_TYPE=rest K2_CATALOG_URI=http://catalog:8181 .* --data"):
        rest.platform()


def test_the_folders_own_catalog_and_a_rest_catalog_exclude_each_other(
    rest: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("K2_CATALOG_TYPE")
    with pytest.raises(InvalidSpec, match="are in a REST catalog"):
        rest.platform()
    other = Layout.at(rest.root / "other")
    other.root.mkdir()
    other.catalog.touch()
    assert other.platform().catalog_uri == f"sqlite:///{other.catalog}"
    monkeypatch.setenv("K2_CATALOG_TYPE", "rest")
    with pytest.raises(InvalidSpec, match="are in its own catalog: unset it"):
        other.platform()


def test_no_backup_is_made_of_a_folder_without_its_tables(rest: Layout, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["backup", str(tmp_path / "copy"), "--data", str(rest.root)])
    assert done.exit_code == 2
    assert "are in a REST catalog and not in the folder" in " ".join(done.output.split())
    assert not (tmp_path / "copy").exists()
