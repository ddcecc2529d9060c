"""Archive the classes of Spark and the broker, so that their JVMs start with less CPU time.

`python -m k2.cli.embedded.class_archives` runs a platform with a simulated exchange for some seconds in a temporary
folder, lets its JVMs record the classes that they load, and writes the archives. It runs once for each Java
and each set of Java archives, and again for an archive that is damaged. Everything works without them.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from k2.cli.embedded import broker
from k2.ingest.exchanges import venue
from k2.jobs.spark.jvm import class_data, gateway
from k2.jobs.spark.jvm.class_data import DumpFailed
from k2.jobs.spark.jvm.jars import SPARK
from k2.jobs.spark.jvm.java import Java
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.feed.model import API_VERSION, KIND

_COLLECTOR: Final = "-XX:+UseSerialGC"  # that of both JVMs
_TIMEOUT: Final = 300.0  # seconds
_LAYER: Final = {"trigger": "1s"}


def missing(java: Java) -> dict[str, list[str]]:
    """Return the class paths without an intact archive, and the options that their JVMs start with."""
    class_paths = {gateway.class_path(SPARK): [*gateway.flags(), _COLLECTOR], broker.class_path(): [_COLLECTOR]}
    return {path: flags for path, flags in class_paths.items() if not class_data.intact(java, path, flags)}


def write(java: Java, seconds: int = 15) -> Sequence[Path]:
    """Write the archives that are missing or damaged, from a run of `seconds`. Raises `DumpFailed`."""
    absent = missing(java)
    if not absent:
        return []
    with tempfile.TemporaryDirectory(prefix="k2-classes-") as folder:
        _run(Path(folder), seconds)
        return [class_data.dump(java, path, Path(folder), flags) for path, flags in absent.items()]


def _run(folder: Path, seconds: int) -> None:
    """Run a platform whose JVMs record their classes in `folder`."""
    feed, exchange = folder / "feed.yaml", next(iter(EXCHANGES))  # any of them: the classes are the same
    spec = {
        "exchange": exchange,
        "symbols": list(venue(exchange).default_symbols),
        "kafka": {"partitions": 1},
        "layers": {"topology": "Combined", "bronze": _LAYER, "silver": _LAYER, "gold": _LAYER},
    }
    manifest = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "classes"}, "spec": spec}
    feed.write_text(json.dumps(manifest), "utf-8")  # JSON is YAML
    words = [sys.executable, "-m", "k2.cli.main", "up", "-f", str(feed), "--data", str(folder / "data"), "--simulate"]
    try:
        done = subprocess.run(
            [*words, "--duration", f"{seconds}s"], env={**os.environ, class_data.RECORD: str(folder)},
            capture_output=True, text=True, timeout=_TIMEOUT, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise DumpFailed(f"the platform that records classes did not end within {_TIMEOUT:.0f} s") from None
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise DumpFailed(f"the platform that records classes failed: {last[0]}")


def main() -> int:
    """Write missing archives, and say which."""
    from k2.cli.commands.doctor import java_and_jars

    try:
        for path in write(java_and_jars()):
            sys.stdout.write(f"archive of classes: {path} ({path.stat().st_size >> 20} MiB)\n")
    except DumpFailed as error:
        sys.stderr.write(f"{error}; JVMs start without it, more slowly\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
