"""`python -m bench.workloads.maintenance bars|compaction FEED`: run one maintenance step and print its seconds."""

import sys
import time
from pathlib import Path

from k2.common.platform import Platform
from k2.jobs import bootstrap
from k2.jobs.maintenance.bar_maintenance import BarMaintainer
from k2.jobs.maintenance.runner import Maintenance
from k2.jobs.spark import tables
from k2.schemas.channels import exchange_tables


def main(step: str, file: str) -> int:
    """Run the step and print its seconds, without the start of JVM and Spark."""
    platform, feeds = Platform.read(), bootstrap.read_feeds([Path(file)])
    spark = bootstrap.connect(platform, "local[2]", "2g")
    tables.ensure(spark, exchange_tables("binance"))
    started_at = time.monotonic()
    if step == "bars":
        BarMaintainer(spark).run()
    else:
        report = Maintenance(spark, platform, feeds).run()
        print(report, file=sys.stderr)
        if report["errors"]:
            return 1
    print(time.monotonic() - started_at, flush=True)
    return 0


if __name__ == "__main__":
    bootstrap.exit_process(main(*sys.argv[1:]))
