"""The lock of Java archives and the cache. Archives come from a Maven repository in a local folder."""

import hashlib
import importlib.machinery
import re
from pathlib import Path

import pytest

from k2.jobs.spark.jvm import jars
from k2.jobs.spark.jvm.jars import ChecksumMismatch, Jar, JarsUnavailable, ensure, read_lock
from k2.jobs.spark.jvm.java import Java, find_java

NO_JAVA = Java(Path("/nonexistent/java"), 21, "none")
CONTENT = {"one": b"PK one", "two": b"PK two"}


def test_every_archive_of_the_lock_has_a_checksum_and_a_unique_path():
    archives = read_lock()
    assert {jar.set for jar in archives} == {jars.SPARK, jars.BROKER, jars.S3}
    assert all(re.fullmatch(r"[0-9a-f]{64}", jar.sha256) for jar in archives)
    assert len({(jar.set, jar.file) for jar in archives}) == len(archives)
    assert len({(jar.group, jar.artifact, jar.version): jar.sha256 for jar in archives}) == len(
        {(jar.group, jar.artifact, jar.version, jar.sha256) for jar in archives}
    )


def test_comments_and_empty_lines_are_ignored():
    text = "# a comment\n\nspark org.example:one:1.0 abc\n"
    assert read_lock(text) == (Jar("spark", "org.example", "one", "1.0", "abc"),)
    assert read_lock(text)[0].file == "one-1.0.jar"


def test_the_environment_sets_the_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("K2_CACHE", str(tmp_path / "k2"))
    assert jars.cache() == tmp_path / "k2" / "jars"
    monkeypatch.delenv("K2_CACHE")
    assert jars.cache() == tmp_path / "xdg" / "k2" / "jars"


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two archives in a repository, a lock that names them, and an empty cache."""
    root, lines = tmp_path / "maven", []
    for name, content in CONTENT.items():
        folder = root / "org" / "example" / name / "1.0"
        folder.mkdir(parents=True)
        (folder / f"{name}-1.0.jar").write_bytes(content)
        (folder / f"{name}-1.0.pom").write_text(
            "<project><modelVersion>4.0.0</modelVersion><groupId>org.example</groupId>"
            f"<artifactId>{name}</artifactId><version>1.0</version></project>"
        )
        lines.append(f"{'spark' if name == 'one' else 'broker'} org.example:{name}:1.0 {digest(content)}\n")
    lock = tmp_path / "jars.lock"
    lock.write_text("".join(lines))
    monkeypatch.setattr(jars, "_LOCK", str(lock))
    monkeypatch.setenv("K2_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("K2_MAVEN", root.as_uri())
    return root


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def cached(tmp_path: Path) -> dict[str, bytes]:
    folder = tmp_path / "cache" / "jars"
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


INTACT = {"spark/one-1.0.jar": CONTENT["one"], "broker/two-1.0.jar": CONTENT["two"]}


def fill(tmp_path: Path, content: dict[str, bytes]) -> None:
    for name, raw in content.items():
        path = tmp_path / "cache" / "jars" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)


def test_a_full_cache_needs_neither_java_nor_a_repository(repository: Path, tmp_path: Path):
    fill(tmp_path, INTACT)
    ensure(NO_JAVA)
    assert jars.classpath(jars.SPARK) == [tmp_path / "cache" / "jars" / "spark" / "one-1.0.jar"]


def test_an_archive_bundled_with_spark_is_neither_fetched_nor_on_the_classpath_twice(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "jars").mkdir()
    (tmp_path / "jars" / "one-1.0.jar").write_bytes(CONTENT["one"])
    monkeypatch.setattr(jars, "spark_home", lambda: tmp_path)
    assert [jar.file for jar in jars.missing(*jars.EMBEDDED)] == ["two-1.0.jar"]
    ensure(NO_JAVA, sets=[jars.SPARK])
    assert jars.classpath(*jars.EMBEDDED) == [tmp_path / "cache" / "jars" / "broker" / "two-1.0.jar"]


def test_only_the_requested_sets_are_checked(repository: Path, tmp_path: Path):
    fill(tmp_path, {"spark/one-1.0.jar": CONTENT["one"]})
    ensure(NO_JAVA, sets=[jars.SPARK])
    with pytest.raises(OSError, match="java"):
        ensure(NO_JAVA, sets=[jars.SPARK, jars.BROKER])


def test_sets_are_copied_into_a_folder(repository: Path, tmp_path: Path):
    fill(tmp_path, INTACT)
    target = tmp_path / "image"
    target.mkdir()
    assert jars.main(["--copy", "spark", str(target), "--copy", "broker", str(target)]) == 0
    assert {path.name: path.read_bytes() for path in target.iterdir()} == {
        "one-1.0.jar": CONTENT["one"],
        "two-1.0.jar": CONTENT["two"],
    }


@pytest.mark.parametrize("packaged", [True, False])
def test_sparks_archives_are_found_in_a_package_and_in_a_distribution(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packaged: bool
):
    package = tmp_path / "spark" / "python" / "pyspark"
    home = package if packaged else tmp_path / "spark"
    package.mkdir(parents=True)
    (home / "jars").mkdir()
    spec = importlib.machinery.ModuleSpec("pyspark", None, origin=str(package / "__init__.py"))
    monkeypatch.setattr(jars, "find_spec", lambda _: spec)
    assert jars.spark_home() == home


@pytest.mark.spark
def test_archives_are_fetched_with_progress_and_cached(repository: Path, tmp_path: Path):
    progress: list[tuple[int, int]] = []
    ensure(find_java(), lambda done, total, _: progress.append((done, total)))
    assert cached(tmp_path) == INTACT
    assert progress == [(0, 2), (1, 2), (2, 2), (2, 2)]


@pytest.mark.spark
def test_a_corrupt_archive_in_the_cache_is_fetched_again(repository: Path, tmp_path: Path):
    fill(tmp_path, INTACT | {"spark/one-1.0.jar": b"PK on"})
    ensure(find_java())
    assert cached(tmp_path) == INTACT


@pytest.mark.spark
def test_an_archive_with_a_wrong_checksum_is_not_cached(repository: Path, tmp_path: Path):
    (repository / "org" / "example" / "one" / "1.0" / "one-1.0.jar").write_bytes(b"PK another")
    with pytest.raises(ChecksumMismatch) as refused:
        ensure(find_java())
    message = f"org.example:one:1.0 has SHA-256 {digest(b'PK another')}, not {digest(CONTENT['one'])}"
    assert str(refused.value) == message
    assert "spark/one-1.0.jar" not in cached(tmp_path)


@pytest.mark.spark
def test_an_unavailable_archive_is_named(repository: Path, tmp_path: Path):
    (repository / "org" / "example" / "two" / "1.0" / "two-1.0.jar").unlink()
    with pytest.raises(JarsUnavailable, match=r"^org\.example:two:1\.0 cannot be fetched from the Maven repository"):
        ensure(find_java())
    assert not any(path.name.startswith(".fetching-") for path in (tmp_path / "cache" / "jars").iterdir())
