"""Class data sharing: archives of the classes that a JVM loads, mapped into its memory instead of parsed and verified.

An archive belongs to one Java and one class path. The JVM checks that itself, and its checksum, and starts without the
archive where either has changed or the archive is damaged. Source: "Class Data Sharing" in Oracle's Java Virtual
Machine Guide.
"""

import hashlib
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from k2.jobs.spark.jvm.jars import cache
from k2.jobs.spark.jvm.java import Java

RECORD: Final = "K2_RECORD_CLASSES"  # names a folder in which each JVM lists the classes that it loads
_DUMP_TIMEOUT: Final = 900.0  # seconds


class DumpFailed(RuntimeError):
    """A JVM could not write an archive."""


def archive(java: Java, class_path: str) -> Path:
    """Return where the archive of a Java and a class path is, or would be."""
    return cache().parent / "classes" / f"{_key(java, class_path)}.jsa"


def options(java: Java, class_path: str) -> list[str]:
    """Return options for a JVM: to use the archive if there is one, or to record what one should hold."""
    if folder := os.environ.get(RECORD):
        return [f"-XX:DumpLoadedClassList={Path(folder) / _key(java, class_path)}.%p.classes"]  # %p: its process id
    path = archive(java, class_path)
    return _use(path) if path.exists() else []


def intact(java: Java, class_path: str, flags: Sequence[str] = ()) -> bool:
    """Return whether there is an archive that a JVM with these options on modules and garbage collection can use."""
    path = archive(java, class_path)
    if not path.exists():
        return False
    no_report = ["-XX:ErrorFile=/dev/null", "-XX:-CreateCoredumpOnCrash"]  # a file that was cut crashes it
    words = [str(java.path), *flags, *_use(path), "-Xshare:on", *no_report, "-cp", class_path, "-version"]
    return subprocess.run(words, capture_output=True, timeout=_DUMP_TIMEOUT, check=False).returncode == 0


def _use(path: Path) -> list[str]:
    # Damaged classes would crash the JVM; the checksum of 200 MB costs it 0.1 s. One that cannot use the archive
    # would say so on its standard output.
    return [f"-XX:SharedArchiveFile={path}", "-XX:+VerifySharedSpaces", "-Xlog:cds=off", "-Xlog:cds+dynamic=off"]


def dump(java: Java, class_path: str, recorded: Path, flags: Sequence[str] = ()) -> Path:
    """Write the archive from what JVMs recorded in a folder. Raises `DumpFailed`.

    Args:
        java: The Java that will use it.
        class_path: The class path that it will be used with.
        recorded: The folder that `RECORD` named.
        flags: The JVM's options on modules and garbage collection, which must be those of later starts.
    """
    path = archive(java, class_path)
    # Ids in these lists count within one JVM, so they cannot be joined: that of the JVM with most classes is taken.
    lists = sorted(recorded.glob(f"{_key(java, class_path)}.*.classes"), key=lambda file: file.stat().st_size)
    if not lists:
        raise DumpFailed(f"no JVM with the class path of {path.name} recorded its classes in {recorded}")
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}")
    words = [
        str(java.path), *flags, "-Xshare:dump", f"-XX:SharedClassListFile={lists[-1]}",
        f"-XX:SharedArchiveFile={unfinished}", "-Xlog:cds=off", "-Xlog:cds+dynamic=off", "-cp", class_path,
    ]  # fmt: skip
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_DUMP_TIMEOUT, check=False)
        if done.returncode or not unfinished.exists():
            raise DumpFailed(f"{java.path} cannot write an archive of classes: {_reason(done.stderr + done.stdout)}")
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())  # after a power failure a shorter file would crash every JVM
        unfinished.replace(path)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DumpFailed(f"{java.path} cannot write an archive of classes: {error}") from error
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def _key(java: Java, class_path: str) -> str:
    return hashlib.sha256(f"{java.path.resolve()}\n{java.version}\n{class_path}".encode()).hexdigest()[:16]


def _reason(output: str) -> str:
    """Return the first line in which the JVM says what is wrong, not which options it found in variables."""
    lines = (line for line in output.splitlines() if line.strip() and not line.startswith(("NOTE: ", "Picked up ")))
    return next(lines, "no message")
