"""Start of Spark's JVM, and pyspark's connection to it.

pyspark would start it through shell scripts and a launcher JVM, with a module that pip-installed Java lacks; a direct
start is faster and works with any supported Java. In a cluster, Spark has started the JVM already.
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

from k2.jobs.spark.jvm import class_data, user_entry
from k2.jobs.spark.jvm.jars import SPARK, classpath, spark_home
from k2.jobs.spark.jvm.java import Java

_START_TIMEOUT: Final = 60.0
_PORT: Final = "PYSPARK_GATEWAY_PORT"
_SECRET: Final = "PYSPARK_GATEWAY_SECRET"  # noqa: S105 - the name of a variable

# The modules of org.apache.spark.launcher.JavaModuleOptions of Spark 4.1, without jdk.incubator.vector: only Spark's
# linear algebra uses it, and jlinked images lack it.
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
    """The JVM exited before pyspark could connect."""


def is_provided() -> bool:
    """Whether the JVM is already running, started by spark-submit in a cluster."""
    return _PORT in os.environ


def set_properties(properties: Mapping[str, str]) -> None:
    """Set system properties of a JVM that is running already."""
    if properties:
        SparkContext._ensure_initialized()  # noqa: SLF001 - the public way creates a context
        for name, value in properties.items():
            SparkContext._jvm.java.lang.System.setProperty(name, value)  # type: ignore[union-attr]  # noqa: SLF001


def start(
    java: Java,
    conf: Mapping[str, str],
    *,
    options: Sequence[str] = (),
    sets: Sequence[str] = (SPARK,),
    log: Path | None = None,
) -> None:
    """Start a JVM with some sets of archives; it exits with this process. Raises `JvmFailed`."""
    with tempfile.TemporaryDirectory(prefix="k2-jvm-") as folder:
        connection_file = Path(folder) / "connection"
        output = log.open("ab") if log else None
        process = subprocess.Popen(
            _command(java, conf, options, sets),
            stdin=subprocess.PIPE,  # the JVM exits when the pipe closes, however this process ends
            stdout=output,
            stderr=output,
            env={
                **os.environ,
                **user_entry.variables(os.environ),
                **_ENVIRONMENT,
                "_PYSPARK_DRIVER_CONN_INFO_PATH": str(connection_file),
            },
            start_new_session=True,  # Ctrl-C must not reach the JVM; this process stops Spark in order
        )
        port, secret = _read_connection(process, connection_file)
    _PROCESSES.append(process)
    _connect(port, secret)


def _connect(port: int, secret: str) -> None:
    """Connect pyspark, then clean the environment, so that child processes start a JVM of their own."""
    os.environ[_PORT], os.environ[_SECRET] = str(port), secret
    try:
        SparkContext._ensure_initialized()  # noqa: SLF001 - the public way creates a context, before its settings are known
    finally:
        del os.environ[_PORT], os.environ[_SECRET]


_PROCESSES: list[subprocess.Popen[bytes]] = []  # references that keep the pipes open


def pid() -> int | None:
    """Return the process id of the JVM; None if this process did not start one."""
    return _PROCESSES[-1].pid if _PROCESSES else None


def class_path(*sets: str) -> str:
    """Return the class path of Spark with some sets of archives."""
    return ":".join([str(spark_home() / "jars" / "*"), *map(str, classpath(*sets))])


def flags() -> list[str]:
    """Return the options that every JVM of Spark starts with."""
    return [*_OPTIONS, *(f"--add-opens={module}=ALL-UNNAMED" for module in _MODULES)]


def _command(java: Java, conf: Mapping[str, str], options: Sequence[str], sets: Sequence[str]) -> list[str]:
    path = class_path(*sets)
    settings = [argument for key, value in conf.items() for argument in ("--conf", f"{key}={value}")]
    return [
        str(java.path), *flags(), *class_data.options(java, path), *options,
        f"-Dlog4j2.configurationFile={_LOGGING}", "-cp", path,
        "org.apache.spark.deploy.SparkSubmit", *settings, "pyspark-shell",
    ]  # fmt: skip


def _read_connection(process: subprocess.Popen[bytes], file: Path) -> tuple[int, str]:
    deadline = time.monotonic() + _START_TIMEOUT
    while time.monotonic() < deadline and process.poll() is None:
        if file.exists():
            raw = file.read_bytes()
            port, size = struct.unpack_from(">ii", raw)
            return port, raw[8 : 8 + size].decode()
        time.sleep(0.05)
    process.kill()
    raise JvmFailed(f"Spark's JVM did not start (exit {process.poll()}); see the log of the jobs process")
