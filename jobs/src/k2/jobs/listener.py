"""Feeds the layers' state from Spark's own progress events."""

import time
from collections.abc import Iterable

from pyspark.sql.streaming.listener import (
    QueryIdleEvent,
    QueryProgressEvent,
    QueryStartedEvent,
    QueryTerminatedEvent,
    StreamingQueryListener,
)

from k2.jobs.streams import Stream
from k2.schemas import logs

log = logs.get("stream")


class ProgressListener(StreamingQueryListener):
    """Knows the streams by their queries' names."""

    def __init__(self, streams: Iterable[Stream]) -> None:
        self._streams = {stream.name: stream for stream in streams}
        self._names: dict[str, str] = {}

    def onQueryStarted(self, event: QueryStartedEvent) -> None:  # noqa: N802 - Spark's spelling
        """A query runs."""
        self._names[str(event.runId)] = event.name or ""

    def onQueryProgress(self, event: QueryProgressEvent) -> None:  # noqa: N802
        """A query finished a micro-batch, or found nothing to do."""
        progress = event.progress
        stream = self._streams.get(progress.name or "")
        if stream is None:
            return
        stream.state.looked_at = time.time()
        log.debug("progress", query=progress.name, epoch=progress.batchId, seconds=progress.batchDuration / 1000)

    def onQueryIdle(self, event: QueryIdleEvent) -> None:  # noqa: N802
        """A query looked and found nothing."""
        stream = self._streams.get(self._names.get(str(event.runId), ""))
        if stream is not None:
            stream.state.looked_at = time.time()

    def onQueryTerminated(self, event: QueryTerminatedEvent) -> None:  # noqa: N802
        """A query ended; the app sees it by itself."""
        self._names.pop(str(event.runId), None)
