"""The shutdown hook of a driver's JVM: layers drain before Spark stops."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from k2.jobs.spark.jvm.java import find_java

pytestmark = pytest.mark.spark

_DRIVER = """
import os, sys, threading
from pyspark.sql import SparkSession
from k2.jobs.spark.jvm.shutdown import DrainHook
spark = SparkSession.builder.config("spark.ui.enabled", "false").getOrCreate()
spark.range(3).count()
stop = threading.Event()
hook = DrainHook(spark, stop)
print("ready", flush=True)
assert stop.wait(60)
print("stopping; Spark still counts", spark.range(7).count(), flush=True)
hook.release()
spark.stop()
sys.stdout.flush()
os._exit(0)
"""


def test_spark_works_until_the_layers_have_drained(tmp_path: Path):
    script = tmp_path / "driver.py"
    script.write_text(_DRIVER)
    submit = [Path(sys.executable).parent / "spark-submit", "--master", "local[1]", "--driver-memory", "512m", script]
    environment = {**os.environ, "JAVA_HOME": str(find_java().path.parent.parent), "PYSPARK_PYTHON": sys.executable}
    with subprocess.Popen(submit, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        assert next(line for line in lines if line == "ready\n")
        jvm = next(
            one
            for one in [psutil.Process(process.pid), *psutil.Process(process.pid).children(True)]
            if one.name() == "java"
        )
        jvm.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert "stopping; Spark still counts 7\n" in lines
        process.wait(30)
        assert time.monotonic() - began < 30
