"""Lets layers drain before Spark ends its context.

In a driver's pod the JVM is the first process, so it is the one that is told to end; Spark would then stop under a
running batch. Spark's own hook waits for those of a higher priority, and this is one.
"""

import threading
from typing import Any, Final

from pyspark.java_gateway import ensure_callback_server_started
from pyspark.sql import SparkSession

_PRIORITY: Final = 100  # Spark's is 40, that of Hadoop's file systems 10
_SECONDS: Final = 50  # a pod has 60 in all


class DrainFirst:
    """A hook of the JVM: sets `stop`, and holds the JVM until `drained` is called."""

    def __init__(self, spark: SparkSession, stop: threading.Event) -> None:
        self._stop = stop
        self._drained = threading.Event()
        gateway: Any = spark.sparkContext._gateway  # noqa: SLF001 - Spark gives no other way to its JVM
        ensure_callback_server_started(gateway)  # type: ignore[no-untyped-call]
        self._hooks = gateway.jvm.org.apache.hadoop.util.ShutdownHookManager.get()
        unit = gateway.jvm.java.util.concurrent.TimeUnit.SECONDS
        self._hooks.addShutdownHook(self, _PRIORITY, _SECONDS, unit)

    def run(self) -> None:
        """What the JVM calls."""
        self._stop.set()
        self._drained.wait(_SECONDS)

    def drained(self) -> None:
        """Lets the JVM end."""
        self._drained.set()

    def toString(self) -> str:  # noqa: N802 - Java's name
        """What Hadoop calls it in a log."""
        return "k2 drain"

    def hashCode(self) -> int:  # noqa: N802 - Java's name
        """Hadoop keeps hooks in a set."""
        return 1

    def equals(self, other: object) -> bool:
        """There is one."""
        return self is other

    class Java:
        """What py4j shows the JVM."""

        implements = ("java.lang.Runnable",)
