"""`python -m bench.workloads.maintenance bars|compaction FEED`: runs one maintenance step and prints its seconds."""

import sys
import time
from pathlib import Path

from k2.common.platform import Platform
from k2.jobs import bootstrap
from k2.jobs.maintenance.bar_maintenance import Upkeep
from k2.jobs.maintenance.runner import Maintenance
from k2.jobs.spark import tables
from k2.schemas.tables import of_exchange


def main(what: str, file: str) -> int:
    """Prints the seconds that it took, JVM and Spark not counted."""
    platform, feeds = Platform.read(), bootstrap.feeds_of([Path(file)])
    spark = bootstrap.connect(platform, "local[2]", "2g")
    tables.ensure(spark, of_exchange("binance"))
    began = time.monotonic()
    if what == "bars":
        Upkeep(spark).run()
    else:
        report = Maintenance(spark, platform, feeds).run()
        print(report, file=sys.stderr)
        if report["errors"]:
            return 1
    print(time.monotonic() - began, flush=True)
    return 0


if __name__ == "__main__":
    bootstrap.leave(main(*sys.argv[1:]))
