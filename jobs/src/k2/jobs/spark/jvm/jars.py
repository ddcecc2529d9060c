"""The Java archives of `jars.lock`: resolved once through the Ivy that ships with pyspark, verified, kept in a cache.

A second start finds them there and needs no network. `K2_CACHE` names another cache; `K2_MAVEN` another repository
than Ivy's own choice, which is Maven Central. In a container image they are beside Spark's own archives instead.
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

from k2.jobs.spark.jvm.java import Java, find

SPARK: Final = "spark"
BROKER: Final = "broker"
S3: Final = "s3"
EMBEDDED: Final = (SPARK, BROKER)
_LOCK: Final = "jars.lock"
_SUCCESS: Final = "[SUCCESSFUL ]"

Progress = Callable[[int, int, str], None]  # done, total, what came last


class JarsUnavailable(ConnectionError):
    """Archives that are neither in the cache nor to be had."""


class WrongChecksum(RuntimeError):
    """An archive that is not the one that the lock names."""


@dataclass(frozen=True, slots=True)
class Jar:
    """One archive of one set."""

    set: str
    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def file(self) -> str:
        """Its name in the cache."""
        return f"{self.artifact}-{self.version}.jar"


def locked(text: str | None = None) -> tuple[Jar, ...]:
    """Every archive in the lock."""
    lines = (files("k2.jobs.spark.jvm").joinpath(_LOCK).read_text("utf-8") if text is None else text).splitlines()
    return tuple(_jar(line) for line in lines if line.strip() and not line.startswith("#"))


def _jar(line: str) -> Jar:
    name, coordinates, checksum = line.split()
    group, artifact, version = coordinates.split(":")
    return Jar(name, group, artifact, version, checksum)


def cache() -> Path:
    """Where archives are kept."""
    base = os.environ.get("K2_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "k2"
    return Path(base) / "jars"


def classpath(*sets: str) -> list[Path]:
    """The archives of some sets, where `ensure` put them; those that Spark brings itself are left out."""
    return [cache() / jar.set / jar.file for jar in locked() if jar.set in sets and not _brought(jar)]


def missing(*sets: str) -> list[Jar]:
    """The archives of some sets that would have to be fetched."""
    wanted = [jar for jar in locked() if jar.set in sets and not _brought(jar)]
    return [jar for jar in wanted if not _whole(cache() / jar.set / jar.file, jar)]


def ensure(java: Java, progress: Progress = lambda *_: None, *, sets: Sequence[str] = EMBEDDED) -> None:
    """Makes sure that every archive of some sets is there, whole. Raises `JarsUnavailable`, `WrongChecksum`."""
    absent = missing(*sets)
    if not absent:
        return
    cache().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=cache()) as folder:
        _resolve(java, absent, Path(folder), progress)
        for jar in absent:
            fetched = Path(folder) / jar.set / jar.file
            if (found := sha256(fetched)) != jar.sha256:
                raise WrongChecksum(f"{jar.group}:{jar.artifact}:{jar.version} has SHA-256 {found}, not {jar.sha256}")
            target = cache() / jar.set / jar.file
            target.parent.mkdir(parents=True, exist_ok=True)
            fetched.replace(target)


def _brought(jar: Jar) -> bool:
    """Whether an archive is among Spark's own, where images put it."""
    return jar.set != BROKER and (spark_home() / "jars" / jar.file).exists()


def _whole(path: Path, jar: Jar) -> bool:
    return path.exists() and sha256(path) == jar.sha256


def sha256(path: Path) -> str:
    """A file's SHA-256, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _resolve(java: Java, wanted: Sequence[Jar], folder: Path, progress: Progress) -> None:
    """Lets Ivy put the archives into `folder`, a folder a set."""
    (folder / "ivy.xml").write_text(_module(wanted), encoding="utf-8")
    sets = sorted({jar.set for jar in wanted})
    command = [
        str(java.path), *java.trust_options, "-cp", str(_ivy()), "org.apache.ivy.Main",
        *_settings(folder), "-cache", str(folder / "ivy"), "-ivy", str(folder / "ivy.xml"),
        "-confs", *sets, "-types", "jar", "bundle",
        "-retrieve", f"{folder}/[conf]/[artifact]-[revision].[ext]",
    ]  # fmt: skip
    said: list[str] = []
    progress(0, len(wanted), "resolving")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as ivy:
        assert ivy.stdout is not None
        done = 0
        for line in ivy.stdout:
            said.append(line)
            if _SUCCESS in line:
                done += 1
                progress(done, len(wanted), line.partition("!")[2].partition(" ")[0])
    absent = [jar for jar in wanted if not (folder / jar.set / jar.file).exists()]
    if absent:
        absent = [jar for jar in absent if _not_found(jar, said)] or absent  # one that is missing holds up the others
        names = ", ".join(f"{jar.group}:{jar.artifact}:{jar.version}" for jar in absent[:3])
        more = f" and {len(absent) - 3} more" if len(absent) > 3 else ""
        raise JarsUnavailable(
            f"{names}{more} cannot be fetched from the Maven repository; check the network and run again" + _why(said)
        )
    progress(len(wanted), len(wanted), "done")


def _not_found(jar: Jar, said: Iterable[str]) -> bool:
    name = f"{jar.group}#{jar.artifact};{jar.version}"
    return any(name in line and "not found" in line.lower() for line in said)


def _why(said: Iterable[str]) -> str:
    reasons = [line.strip() for line in said if "ERROR" in line or "Exception" in line or "timed out" in line]
    return f" ({reasons[0][:200]})" if reasons else ""


def _module(wanted: Iterable[Jar]) -> str:
    sets = sorted({jar.set for jar in wanted})
    configurations = "".join(f"<conf name={quoteattr(name)}/>" for name in sets)
    dependencies = "".join(
        f"<dependency org={quoteattr(jar.group)} name={quoteattr(jar.artifact)} rev={quoteattr(jar.version)} "
        f'conf="{jar.set}-&gt;default" transitive="false"/>'
        for jar in wanted
    )
    return (
        '<ivy-module version="2.0"><info organisation="k2" module="jars"/>'
        f"<configurations>{configurations}</configurations><dependencies>{dependencies}</dependencies></ivy-module>"
    )


def _settings(folder: Path) -> list[str]:
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
    """Where Spark's archives are: where pip put them, or in the distribution that pyspark is a part of."""
    spec = find_spec("pyspark")
    if spec is None or spec.origin is None:
        raise JarsUnavailable("pyspark is not installed; run: pip install 'k2-market-data[jobs]'")
    package = Path(spec.origin).parent
    return package if (package / "jars").is_dir() else package.parents[1]


def _ivy() -> Path:
    return next((spark_home() / "jars").glob("ivy-*.jar"))


def main(words: Sequence[str]) -> int:
    """Fills the cache, copies sets into a folder (for images), or writes new checksums after a version was changed."""
    parser = argparse.ArgumentParser(prog="k2.jobs.spark.jvm.jars", description=main.__doc__)
    parser.add_argument("--update", action="store_true", help="resolve what the lock names and write its checksums")
    parser.add_argument(
        "--copy", nargs=2, action="append", metavar=("SET", "FOLDER"), help="copy a set's archives into a folder"
    )
    arguments = parser.parse_args(words)
    if arguments.update:
        _update()
        return 0
    copies: list[tuple[str, str]] = arguments.copy or []
    sets = [name for name, _ in copies] or EMBEDDED
    ensure(find(), lambda done, total, name: print(f"{done}/{total} {name}"), sets=sets)
    for name, folder in copies:
        for path in classpath(name):
            shutil.copyfile(path, Path(folder) / path.name)
    return 0


def _update() -> None:
    lock = Path(str(files("k2.jobs.spark.jvm").joinpath(_LOCK)))
    text = lock.read_text("utf-8")
    with tempfile.TemporaryDirectory(prefix="k2-jars-") as folder:
        _resolve(find(), locked(text), Path(folder), lambda *_: None)
        for jar in locked(text):
            found = sha256(Path(folder) / jar.set / jar.file)
            if found != jar.sha256:
                print(f"{jar.file}: {found}")
                text = text.replace(jar.sha256, found)
    lock.write_text(text, "utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
