"""`python -m bench.keeping bars|compaction FEED`: what K2's jobs do for a table meanwhile, once, and its seconds."""

import sys
import time
from pathlib import Path

from k2.jobs import startup, tables
from k2.jobs.maintenance import Maintenance
from k2.jobs.upkeep import Upkeep
from k2.schemas.platform import Platform
from k2.schemas.tables import of_exchange


def main(what: str, file: str) -> int:
    """Prints the seconds that it took, JVM and Spark not counted."""
    platform, feeds = Platform.read(), startup.feeds_of([Path(file)])
    spark = startup.connect(platform, "local[2]", "2g")
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
    startup.leave(main(*sys.argv[1:]))
