"""CRDs of the operators that K2 works with, downloaded from their published modules."""

import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

STRIMZI = ("Kafka", "KafkaNodePool", "KafkaTopic", "KafkaUser")
SPARK = ("github.com/kubeflow/spark-operator/v2@v2.5.0", "config/crd/bases", ("sparkapplications",))
PROMETHEUS = (
    "github.com/prometheus-operator/prometheus-operator@v0.85.0",
    "example/prometheus-operator-crd",
    ("podmonitors", "servicemonitors", "prometheusrules"),
)


def missing() -> str:
    """Return which requirement is missing on this machine; empty if none is."""
    if not os.environ.get("K2_KIT"):
        return "K2_KIT is not set: it is the folder of the cluster kit, whose strimzi-crds writes Strimzi's CRDs"
    absent = [program for program in ("go", "mvn") if shutil.which(program) is None]
    return f"{' and '.join(absent)} not installed: the other operators' CRDs come from their modules" if absent else ""


@contextmanager
def _alone() -> Iterator[None]:
    """Wait for other processes of the tests: the first run of the kit's program fills a cache that all use."""
    with (Path(tempfile.gettempdir()) / "k2-strimzi-crds.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def published(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the CRDs of Strimzi, the Spark operator and the Prometheus operator."""
    with _alone():
        subprocess.run([f"{os.environ['K2_KIT']}/strimzi-crds", str(folder)], check=True, capture_output=True)
    for kind in STRIMZI:
        yield yaml.safe_load((folder / f"{kind}.yaml").read_text())
    for module, where, plurals in (SPARK, PROMETHEUS):
        done = subprocess.run(["go", "mod", "download", "-json", module], check=True, capture_output=True, cwd=folder)
        for plural in plurals:
            (path,) = (Path(json.loads(done.stdout)["Dir"]) / where).glob(f"*_{plural}.yaml")
            yield yaml.safe_load(path.read_text())
