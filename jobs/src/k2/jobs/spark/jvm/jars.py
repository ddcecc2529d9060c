"""The Java archives of `jars.lock`: resolved once with the Ivy that ships with pyspark, verified and cached.

Later starts use the cache and need no network. `K2_CACHE` sets the cache folder, `K2_MAVEN` a repository other than
Maven Central. A container image has the archives among Spark's own instead.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Final
from xml.sax.saxutils import quoteattr

from k2.jobs.spark.jvm.java import Java, find_java

SPARK: Final = "spark"
BROKER: Final = "broker"
S3: Final = "s3"
EMBEDDED: Final = (SPARK, BROKER)
_LOCK: Final = "jars.lock"
_SUCCESS: Final = "[SUCCESSFUL ]"

Progress = Callable[[int, int, str], None]  # done, total, name of the last archive


class JarsUnavailable(ConnectionError):
    """Archives are not in the cache and cannot be fetched."""


class ChecksumMismatch(RuntimeError):
    """An archive differs from the one in the lock."""


@dataclass(frozen=True, slots=True)
class Jar:
    """One archive of a set."""

    set: str
    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def file(self) -> str:
        """The archive's file name in the cache."""
        return f"{self.artifact}-{self.version}.jar"


def read_lock(text: str | None = None) -> tuple[Jar, ...]:
    """Return every archive of a lock; of K2's own without `text`."""
    lines = (files("k2.jobs.spark.jvm").joinpath(_LOCK).read_text("utf-8") if text is None else text).splitlines()
    return tuple(_jar(line) for line in lines if line.strip() and not line.startswith("#"))


def _jar(line: str) -> Jar:
    name, coordinates, checksum = line.split()
    group, artifact, version = coordinates.split(":")
    return Jar(name, group, artifact, version, checksum)


def cache() -> Path:
    """Return the cache folder of the archives."""
    base = os.environ.get("K2_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "k2"
    return Path(base) / "jars"


def classpath(*sets: str) -> list[Path]:
    """Return the cached archives of some sets, without those that are among Spark's own."""
    return [cache() / jar.set / jar.file for jar in read_lock() if jar.set in sets and not _bundled(jar)]


def missing(*sets: str) -> list[Jar]:
    """Return the archives of some sets that must be fetched."""
    required = [jar for jar in read_lock() if jar.set in sets and not _bundled(jar)]
    return [jar for jar in required if not _is_intact(cache() / jar.set / jar.file, jar)]


def ensure(java: Java, progress: Progress = lambda *_: None, *, sets: Sequence[str] = EMBEDDED) -> None:
    """Fetch the archives of some sets that are missing or corrupt. Raises `JarsUnavailable`, `ChecksumMismatch`."""
    absent = missing(*sets)
    if not absent:
        return
    cache().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=cache()) as folder:
        _resolve(java, absent, Path(folder), progress)
        for jar in absent:
            fetched = Path(folder) / jar.set / jar.file
            if (checksum := sha256(fetched)) != jar.sha256:
                raise ChecksumMismatch(
                    f"{jar.group}:{jar.artifact}:{jar.version} has SHA-256 {checksum}, not {jar.sha256}"
                )
            target = cache() / jar.set / jar.file
            target.parent.mkdir(parents=True, exist_ok=True)
            fetched.replace(target)


def _bundled(jar: Jar) -> bool:
    """Whether an archive is among Spark's own, as in container images."""
    return jar.set != BROKER and (spark_home() / "jars" / jar.file).exists()


def _is_intact(path: Path, jar: Jar) -> bool:
    return path.exists() and sha256(path) == jar.sha256


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _resolve(java: Java, archives: Sequence[Jar], folder: Path, progress: Progress) -> None:
    """Fetch archives with Ivy into `folder`, one subfolder a set."""
    (folder / "ivy.xml").write_text(_ivy_module(archives), encoding="utf-8")
    sets = sorted({jar.set for jar in archives})
    command = [
        str(java.path), *java.trust_options, "-cp", str(_ivy()), "org.apache.ivy.Main",
        *_ivy_settings(folder), "-cache", str(folder / "ivy"), "-ivy", str(folder / "ivy.xml"),
        "-confs", *sets, "-types", "jar", "bundle",
        "-retrieve", f"{folder}/[conf]/[artifact]-[revision].[ext]",
    ]  # fmt: skip
    output: list[str] = []
    progress(0, len(archives), "resolving")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as ivy:
        assert ivy.stdout is not None
        done = 0
        for line in ivy.stdout:
            output.append(line)
            if _SUCCESS in line:
                done += 1
                progress(done, len(archives), line.partition("!")[2].partition(" ")[0])
    absent = [jar for jar in archives if not (folder / jar.set / jar.file).exists()]
    if absent:
        absent = [jar for jar in absent if _not_found(jar, output)] or absent  # one missing archive blocks the others
        names = ", ".join(f"{jar.group}:{jar.artifact}:{jar.version}" for jar in absent[:3])
        more = f" and {len(absent) - 3} more" if len(absent) > 3 else ""
        raise JarsUnavailable(
            f"{names}{more} cannot be fetched from the Maven repository; check the network and run again"
            + _reason(output)
        )
    progress(len(archives), len(archives), "done")


def _not_found(jar: Jar, output: Iterable[str]) -> bool:
    name = f"{jar.group}#{jar.artifact};{jar.version}"
    return any(name in line and "not found" in line.lower() for line in output)


def _reason(output: Iterable[str]) -> str:
    reasons = [line.strip() for line in output if "ERROR" in line or "Exception" in line or "timed out" in line]
    return f" ({reasons[0][:200]})" if reasons else ""


def _ivy_module(archives: Sequence[Jar]) -> str:
    sets = sorted({jar.set for jar in archives})
    configurations = "".join(f"<conf name={quoteattr(name)}/>" for name in sets)
    dependencies = "".join(
        f"<dependency org={quoteattr(jar.group)} name={quoteattr(jar.artifact)} rev={quoteattr(jar.version)} "
        f'conf="{jar.set}-&gt;default" transitive="false"/>'
        for jar in archives
    )
    return (
        '<ivy-module version="2.0"><info organisation="k2" module="jars"/>'
        f"<configurations>{configurations}</configurations><dependencies>{dependencies}</dependencies></ivy-module>"
    )


def _ivy_settings(folder: Path) -> list[str]:
    root = os.environ.get("K2_MAVEN")
    if not root:
        return []
    settings = folder / "ivysettings.xml"
    settings.write_text(
        '<ivysettings><settings defaultResolver="maven"/><resolvers>'
        f'<ibiblio name="maven" m2compatible="true" root={quoteattr(root)}/></resolvers></ivysettings>',
        encoding="utf-8",
    )
    return ["-settings", str(settings)]


def spark_home() -> Path:
    """Return the folder that holds Spark's `jars`: the pip package, or the distribution that contains pyspark."""
    spec = find_spec("pyspark")
    if spec is None or spec.origin is None:
        raise JarsUnavailable("pyspark is not installed; run: pip install 'k2-market-data[jobs]'")
    package = Path(spec.origin).parent
    return package if (package / "jars").is_dir() else package.parents[1]


def _ivy() -> Path:
    return next((spark_home() / "jars").glob("ivy-*.jar"))


def main(argv: Sequence[str]) -> int:
    """Fill the cache, copy sets into a folder (for images), or update the lock's checksums after a version change."""
    parser = argparse.ArgumentParser(prog="k2.jobs.spark.jvm.jars", description=main.__doc__)
    parser.add_argument(
        "--update", action="store_true", help="resolve the archives of the lock and write their checksums"
    )
    parser.add_argument(
        "--copy", nargs=2, action="append", metavar=("SET", "FOLDER"), help="copy a set's archives into a folder"
    )
    options = parser.parse_args(argv)
    if options.update:
        _update()
        return 0
    copies: list[tuple[str, str]] = options.copy or []
    sets = [name for name, _ in copies] or EMBEDDED
    ensure(find_java(), lambda done, total, name: print(f"{done}/{total} {name}"), sets=sets)
    for name, folder in copies:
        for path in classpath(name):
            shutil.copyfile(path, Path(folder) / path.name)
    return 0


def _update() -> None:
    lock = Path(str(files("k2.jobs.spark.jvm").joinpath(_LOCK)))
    text = lock.read_text("utf-8")
    with tempfile.TemporaryDirectory(prefix="k2-jars-") as folder:
        _resolve(find_java(), read_lock(text), Path(folder), lambda *_: None)
        for jar in read_lock(text):
            checksum = sha256(Path(folder) / jar.set / jar.file)
            if checksum != jar.sha256:
                print(f"{jar.file}: {checksum}")
                text = text.replace(jar.sha256, checksum)
    lock.write_text(text, "utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
