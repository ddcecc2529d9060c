"""Archives of classes: written from what a JVM recorded, used when they fit, refused with the JVM's own words."""

import subprocess
from pathlib import Path

import pytest

from k2.jobs.spark.jvm import class_data
from k2.jobs.spark.jvm.class_data import DumpFailed
from k2.jobs.spark.jvm.java import Java, find_java


@pytest.fixture
def java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Java:
    monkeypatch.setenv("K2_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(class_data.RECORD, raising=False)
    return find_java()


def start(java: Java, class_path: str, *words: str) -> str:
    """Start a JVM that prints where each of its classes comes from, and return what it prints."""
    options = class_data.options(java, class_path)
    command = [str(java.path), *options, *words, "-Xlog:class+load", "-cp", class_path, "-version"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def record(java: Java, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Start a JVM that records its classes, and return the folder in which it does."""
    recorded = folder / "recorded"
    recorded.mkdir()
    with monkeypatch.context() as recording:
        recording.setenv(class_data.RECORD, str(recorded))
        start(java, "", "-XX:TieredStopAtLevel=1")
    return recorded


def test_a_jvm_loads_from_the_archive_of_what_another_recorded(java, tmp_path, monkeypatch):
    assert class_data.options(java, "") == []
    path = class_data.dump(java, "", record(java, tmp_path, monkeypatch), ["-XX:+UseSerialGC"])
    assert path == class_data.archive(java, "")
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert "shared objects file" in start(java, "", "-XX:+UseSerialGC", "-Xshare:on")


def test_a_damaged_archive_is_not_used_and_not_intact(java, tmp_path, monkeypatch):
    flags = ["-XX:+UseSerialGC"]
    assert not class_data.intact(java, "", flags)
    path = class_data.dump(java, "", record(java, tmp_path, monkeypatch), flags)
    assert class_data.intact(java, "", flags)
    with path.open("r+b") as file:  # as after a power failure: pages that were never written
        file.seek(1 << 20)
        file.write(bytes(2 << 20))
    assert not class_data.intact(java, "", flags)
    assert "shared objects file" not in start(java, "", *flags)


def test_a_class_path_has_an_archive_of_its_own(java):
    assert class_data.archive(java, "a.jar") != class_data.archive(java, "b.jar")


def test_an_archive_that_does_not_fit_is_not_used(java):
    path = class_data.archive(java, "")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"of another Java")
    assert "shared objects file" not in start(java, "")


def test_nothing_recorded_is_no_archive(java, tmp_path):
    with pytest.raises(DumpFailed, match=r"no JVM with the class path of .* recorded its classes"):
        class_data.dump(java, "", tmp_path)


def test_a_failed_dump_leaves_no_file(java, tmp_path):
    key = class_data.archive(java, "").stem
    (tmp_path / f"{key}.1.classes").write_text("java/lang/Object id: 0\n")
    with pytest.raises(DumpFailed, match=r"cannot write an archive of classes: .*NoSuchOption"):
        class_data.dump(java, "", tmp_path, ["-XX:+NoSuchOption"])
    assert list(class_data.archive(java, "").parent.iterdir()) == []
