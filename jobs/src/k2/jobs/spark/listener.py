"""A listener that updates the state of the layers from Spark's progress events."""

import json
import time
from collections.abc import Iterable
from typing import Any

from pyspark import SparkContext
from pyspark.sql.streaming.listener import (
    QueryIdleEvent,
    QueryProgressEvent,
    QueryStartedEvent,
    QueryTerminatedEvent,
    StreamingQueryListener,
)

from k2.common import logs
from k2.jobs.stream import Stream

log = logs.get("stream")


class ProgressListener(StreamingQueryListener):
    """Updates streams, by the names of their queries.

    pyspark would copy each event into Python field by field, with thousands of calls into the JVM a minute; this
    listener reads the event's JSON with one call.
    """

    def __init__(self, streams: Iterable[Stream]) -> None:
        self._streams = {stream.name: stream for stream in streams}
        self._names: dict[str, str] = {}

    @property
    def _jlistener(self) -> Any:
        if "_wrapped" not in self.__dict__:
            jvm: Any = SparkContext._jvm  # noqa: SLF001 - as the base class does
            self._wrapped = jvm.org.apache.spark.sql.streaming.PythonStreamingQueryListenerWrapper(_Events(self))
        return self._wrapped

    def started(self, run_id: str, name: str) -> None:
        """Remember the name of a query that started."""
        self._names[run_id] = name

    def progressed(self, progress: dict[str, Any]) -> None:
        """Record that a query finished a micro-batch."""
        stream = self._streams.get(progress.get("name") or "")
        if stream is None:
            return
        stream.state.polled_at = time.time()
        log.debug("progress", query=stream.name, epoch=progress["batchId"], milliseconds=progress["durationMs"])

    def idle(self, run_id: str) -> None:
        """Record that a query polled its source and has no new data."""
        stream = self._streams.get(self._names.get(run_id, ""))
        if stream is not None:
            stream.state.polled_at = time.time()

    def onQueryStarted(self, event: QueryStartedEvent) -> None:  # noqa: N802 - Spark's spelling
        """Not called: see `_Events`."""

    def onQueryProgress(self, event: QueryProgressEvent) -> None:  # noqa: N802
        """Not called: see `_Events`."""

    def onQueryIdle(self, event: QueryIdleEvent) -> None:  # noqa: N802
        """Not called: see `_Events`."""

    def onQueryTerminated(self, event: QueryTerminatedEvent) -> None:  # noqa: N802
        """Not called: the app checks whether its queries are active."""


class _Events:
    """The callbacks for the JVM."""

    def __init__(self, listener: ProgressListener) -> None:
        self._listener = listener

    def onQueryStarted(self, event: Any) -> None:  # noqa: N802 - Spark's spelling
        fields = json.loads(event.json())
        self._listener.started(fields["runId"], fields["name"] or "")

    def onQueryProgress(self, event: Any) -> None:  # noqa: N802
        self._listener.progressed(json.loads(event.progress().json()))

    def onQueryIdle(self, event: Any) -> None:  # noqa: N802
        self._listener.idle(json.loads(event.json())["runId"])

    def onQueryTerminated(self, event: Any) -> None:  # noqa: N802
        pass

    class Java:
        """The Java interface that py4j implements."""

        implements = ("org.apache.spark.sql.streaming.PythonStreamingQueryListener",)
