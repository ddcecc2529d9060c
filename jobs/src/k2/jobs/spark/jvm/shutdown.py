"""A JVM shutdown hook that lets the layers drain before Spark stops its context.

In a driver pod the JVM is the first process, so it gets SIGTERM, and Spark would stop during a running batch. Spark's
own hook waits for hooks of a higher priority, such as this one.
"""

import threading
from typing import Any, Final

from pyspark.java_gateway import ensure_callback_server_started
from pyspark.sql import SparkSession

_PRIORITY: Final = 100  # Spark's is 40, that of Hadoop's file systems 10
_SECONDS: Final = 50  # a pod has 60 in all


class DrainHook:
    """A shutdown hook that sets `stop`, then blocks the JVM until `release` is called."""

    def __init__(self, spark: SparkSession, stop: threading.Event) -> None:
        self._stop = stop
        self._drained = threading.Event()
        gateway: Any = spark.sparkContext._gateway  # noqa: SLF001 - pyspark has no public way to its JVM
        ensure_callback_server_started(gateway)  # type: ignore[no-untyped-call]
        self._hooks = gateway.jvm.org.apache.hadoop.util.ShutdownHookManager.get()
        unit = gateway.jvm.java.util.concurrent.TimeUnit.SECONDS
        self._hooks.addShutdownHook(self, _PRIORITY, _SECONDS, unit)

    def run(self) -> None:
        """Run the hook. Called by the JVM."""
        self._stop.set()
        self._drained.wait(_SECONDS)

    def release(self) -> None:
        """Let the JVM exit."""
        self._drained.set()

    def toString(self) -> str:  # noqa: N802 - Java's name
        """Return the hook's name in Hadoop's log."""
        return "k2 drain"

    def hashCode(self) -> int:  # noqa: N802 - Java's name
        """Return a constant: Hadoop keeps hooks in a set."""
        return 1

    def equals(self, other: object) -> bool:
        """Compare by identity."""
        return self is other

    class Java:
        """The Java interface that py4j implements."""

        implements = ("java.lang.Runnable",)
