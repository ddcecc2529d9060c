"""`python -m bench.workloads.load_gold FILE`: append each Parquet file listed in FILE to Gold, in one commit each."""

import json
import sys
from pathlib import Path

from k2.common.platform import Platform
from k2.jobs import bootstrap
from k2.jobs.spark import tables
from k2.schemas.tables import GOLD_TABLE


def main(commits: Path) -> int:
    """Append in order. FILE is a JSON list of pairs: a Parquet file, and properties of its snapshot."""
    spark = bootstrap.connect(Platform.read(), "local[2]", "2g")
    tables.ensure(spark, [GOLD_TABLE])
    for file, summary in json.loads(commits.read_text("utf-8")):
        writer = spark.read.parquet(file).coalesce(1).writeTo(GOLD_TABLE.identifier)  # one task leaves one file
        for key, value in summary.items():
            writer = writer.option(f"snapshot-property.{key}", value)
        writer.append()
    return 0


if __name__ == "__main__":
    bootstrap.exit_process(main(Path(sys.argv[1])))
