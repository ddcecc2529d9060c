"""The audit of an app that runs on its own: minutes after its start, every hour, and when it stops."""

import threading
import time
from typing import Final

from pyspark.sql import SparkSession

from k2.common import logs
from k2.common.platform import Platform
from k2.jobs.audit import runner

log = logs.get("audit")

# Seconds.
_FIRST: Final = 420.0
_INTERVAL: Final = 3600.0
_MOST_LOGGED: Final = 20  # findings


class PeriodicAudit:
    """Audits everything in the catalog, in the app's own Spark session."""

    def __init__(self, spark: SparkSession, platform: Platform) -> None:
        self._spark = spark
        self._platform = platform
        self._lock = threading.Lock()

    def run(self) -> None:
        """Audit what is new or touched, and log the result. An error is logged; the verdicts are in a table."""
        started = time.monotonic()
        with self._lock:
            try:
                report = runner.audit(self._spark, self._platform, incremental=True)
            except runner.NothingToAudit:
                return
            except Exception:
                log.exception("not audited")
                return
        findings = [f"{finding.check}: {finding.text}" for finding in report.findings[:_MOST_LOGGED]]
        took = round(time.monotonic() - started, 1)
        if findings:
            log.error("audited", verdict=report.verdict, count=len(report.findings), findings=findings, seconds=took)
        else:
            log.info("audited", verdict=report.verdict, seconds=took)

    def run_hourly(self, stop: threading.Event) -> None:
        """Audit until `stop` is set, in a thread of its own."""
        rest = _FIRST
        while not stop.wait(rest):
            self.run()
            rest = _INTERVAL
