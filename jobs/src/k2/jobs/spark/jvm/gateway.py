"""Starts Spark's JVM and tells pyspark where it is.

pyspark would start it through shell scripts and a launcher JVM, and with a module that pip-installed Java lacks;
starting it here is faster and works with either Java. In a cluster Spark has started the JVM already.
"""

import os
import struct
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Final

from pyspark import SparkContext

from k2.jobs.spark.jvm.jars import SPARK, classpath, spark_home
from k2.jobs.spark.jvm.java import Java

_START_TIMEOUT: Final = 60.0
_PORT: Final = "PYSPARK_GATEWAY_PORT"
_SECRET: Final = "PYSPARK_GATEWAY_SECRET"  # noqa: S105 - the name of a variable

# What org.apache.spark.launcher.JavaModuleOptions of Spark 4.1 asks for, but for jdk.incubator.vector: Spark's
# linear algebra would use it, K2 has none, and jlinked images lack it.
_MODULES: Final = (
    "java.base/java.lang java.base/java.lang.invoke java.base/java.lang.reflect java.base/java.io java.base/java.net "
    "java.base/java.nio java.base/java.util java.base/java.util.concurrent java.base/java.util.concurrent.atomic "
    "java.base/jdk.internal.ref java.base/sun.nio.ch java.base/sun.nio.cs java.base/sun.security.action "
    "java.base/sun.util.calendar java.security.jgss/sun.security.krb5"
).split()
_ENVIRONMENT: Final = {"SPARK_CONNECT_MODE": "0", "SPARK_LOCAL_IP": "127.0.0.1"}
_LOGGING: Final = files("k2.jobs.spark.jvm").joinpath("log4j2.properties")
_OPTIONS: Final = (
    "-XX:+IgnoreUnrecognizedVMOptions",
    "-Djdk.reflect.useDirectMethodHandle=false",
    "-Dio.netty.tryReflectionSetAccessible=true",
    "-Dio.netty.allocator.type=pooled",
    "--enable-native-access=ALL-UNNAMED",
)


class JvmFailed(RuntimeError):
    """The JVM ended before it could be talked to."""


def provided() -> bool:
    """Whether somebody else has started the JVM, as spark-submit does in a cluster."""
    return _PORT in os.environ


def start(
    java: Java,
    conf: Mapping[str, str],
    *,
    options: Sequence[str] = (),
    sets: Sequence[str] = (SPARK,),
    log: Path | None = None,
) -> None:
    """Starts a JVM with some sets of archives, which dies with this process. Raises `JvmFailed`."""
    with tempfile.TemporaryDirectory(prefix="k2-jvm-") as folder:
        told = Path(folder) / "connection"
        output = log.open("ab") if log else None
        process = subprocess.Popen(
            _command(java, conf, options, sets),
            stdin=subprocess.PIPE,  # the JVM exits when this closes, however this process ends
            stdout=output,
            stderr=output,
            env={**os.environ, **_ENVIRONMENT, "_PYSPARK_DRIVER_CONN_INFO_PATH": str(told)},
            start_new_session=True,  # ctrl-c is for us; Spark is stopped in order
        )
        port, secret = _connection(process, told)
    _PROCESSES.append(process)
    _connect(port, secret)


def _connect(port: int, secret: str) -> None:
    """Has pyspark connect, and leaves nothing of it in the environment: a process started from here has its own JVM."""
    os.environ[_PORT], os.environ[_SECRET] = str(port), secret
    try:
        SparkContext._ensure_initialized()  # noqa: SLF001 - the public way makes a context, too early for its settings
    finally:
        del os.environ[_PORT], os.environ[_SECRET]


_PROCESSES: list[subprocess.Popen[bytes]] = []  # kept, so that their pipes stay open


def pid() -> int | None:
    """The JVM's process id, if it was started here."""
    return _PROCESSES[-1].pid if _PROCESSES else None


def _command(java: Java, conf: Mapping[str, str], options: Sequence[str], sets: Sequence[str]) -> list[str]:
    jars = [str(spark_home() / "jars" / "*"), *map(str, classpath(*sets))]
    opens = [f"--add-opens={module}=ALL-UNNAMED" for module in _MODULES]
    settings = [word for key, value in conf.items() for word in ("--conf", f"{key}={value}")]
    return [
        str(java.path), *_OPTIONS, *opens, *options, f"-Dlog4j2.configurationFile={_LOGGING}", "-cp", ":".join(jars),
        "org.apache.spark.deploy.SparkSubmit", *settings, "pyspark-shell",
    ]  # fmt: skip


def _connection(process: subprocess.Popen[bytes], told: Path) -> tuple[int, str]:
    deadline = time.monotonic() + _START_TIMEOUT
    while time.monotonic() < deadline and process.poll() is None:
        if told.exists():
            raw = told.read_bytes()
            port, size = struct.unpack_from(">ii", raw)
            return port, raw[8 : 8 + size].decode()
        time.sleep(0.05)
    process.kill()
    raise JvmFailed(f"Spark's JVM did not start (exit {process.poll()}); see the log of the jobs")
