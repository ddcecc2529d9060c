"""The CRDs of the operators that K2 drives, as they themselves publish them, fetched when they are needed."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

SPARK = ("github.com/kubeflow/spark-operator/v2@v2.5.0", "config/crd/bases/*_sparkapplications.yaml")
PROMETHEUS = (
    "github.com/prometheus-operator/prometheus-operator@v0.85.0",
    "example/prometheus-operator-crd/*_*monitors.yaml",
)


def missing() -> str:
    """What is not on this machine; empty if all is there."""
    if not os.environ.get("K2_KIT"):
        return "K2_KIT is not set: it names the folder of the cluster kit, whose strimzi-crds writes Strimzi's CRDs"
    absent = [program for program in ("go", "mvn") if shutil.which(program) is None]
    return f"{' and '.join(absent)} not installed: the other operators' CRDs come from their modules" if absent else ""


def published(folder: Path) -> Iterator[dict[str, Any]]:
    """Strimzi's topics, Spark's applications, Prometheus' monitors."""
    subprocess.run([f"{os.environ['K2_KIT']}/strimzi-crds", str(folder)], check=True, capture_output=True)
    yield yaml.safe_load((folder / "KafkaTopic.yaml").read_text())
    for module, pattern in (SPARK, PROMETHEUS):
        done = subprocess.run(["go", "mod", "download", "-json", module], check=True, capture_output=True, cwd=folder)
        for path in sorted(Path(json.loads(done.stdout)["Dir"]).glob(pattern)):
            yield yaml.safe_load(path.read_text())
