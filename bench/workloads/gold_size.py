"""`python -m bench.workloads.gold_size FOLDER [CHANNEL]`: write recorded records to Gold, then compact them.

Prints the bytes of each column as JSON: `{"records": N, "units": N, "before": {column: bytes}, "after": {...}}`. Units
are trades, quotes, or levels of books. Every byte of the files counts; what belongs to no column (footers and page
indexes) is `footer`.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import pyarrow as pa
from pyarrow import parquet
from pyspark.sql import SparkSession

from bench.workloads import frames, recorded_books
from k2.common.platform import Platform
from k2.ingest.exchanges.base import SequencedRecord
from k2.ingest.exchanges.binance.parse import Binance
from k2.ingest.simulator.listings import pair_of
from k2.jobs import bootstrap
from k2.jobs.layers import gold, silver
from k2.jobs.maintenance.runner import Maintenance
from k2.jobs.spark import tables
from k2.schemas.channels import BOOK, QUOTES, TRADES, Channel, exchange_tables
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.records.trade import Trade

COMMIT: Final = 2_000  # records in a commit
FOOTER: Final = "footer"
_SCHEMA_ID: Final = 1
_FIRST_ID: Final = 3_000_000_000  # ids of as many digits as Binance's


def main(folder: Path, name: str = TRADES.name) -> int:
    """Write and compact, in a catalog of the environment's platform; staging files are in the folder."""
    channel = {one.name: one for one in (TRADES, QUOTES, BOOK)}[name]
    spark = bootstrap.connect(Platform.read(), "local[2]", "1g")
    tables.ensure(spark, exchange_tables("binance", [channel]))
    records = _recorded(channel)
    for first in range(0, len(records), COMMIT):
        _append(spark, channel, records[first : first + COMMIT], folder / f"{first}.parquet")
    before = _bytes(spark, channel)
    maintenance = Maintenance(spark, Platform.read(), [])
    maintenance._compact(channel.gold, datetime.now(UTC) + timedelta(days=1))  # noqa: SLF001 - one step of a round
    units = sum(len(one.bids) + len(one.asks) for one in records) if channel is BOOK else len(records)
    counts = {"records": len(records), "units": units}
    print(json.dumps({**counts, "before": before, "after": _bytes(spark, channel)}), flush=True)
    return 0


def _recorded(channel: Channel) -> Sequence[Any]:
    if channel is QUOTES:
        return recorded_books.quotes()
    return recorded_books.updates() if channel is BOOK else recorded_trades()


def recorded_trades() -> list[Trade]:
    """Return the trades of the recorded frames, in the order of their receipt, as the ingest parses them."""
    recording = frames.load()
    adapter = Binance([pair_of(EXCHANGES["binance"], symbol) for symbol in frames.SYMBOLS])
    start = recording.trades[0].at
    parsed = (
        event.record
        for at, _, _, frame in frames.numbered(recording, len(recording.trades), aggregated=False, first_id=_FIRST_ID)
        for event in adapter.parse(frame, int((start + at) * 1e6))
        if isinstance(event, SequencedRecord)
    )
    return list(parsed)


def _append(spark: SparkSession, channel: Channel, records: Sequence[Any], file: Path) -> None:
    """Append one commit to Gold: Bronze rows through the transforms of Silver and Gold, in one task."""
    encoder = channel.encoder(_SCHEMA_ID)
    times = pa.array([record.ingestion_timestamp for record in records], pa.timestamp("us", "UTC"))
    bronze = pa.table(
        {
            "value": [encoder.encode(record) for record in records],
            "key": [record.symbol.encode() for record in records],
            "topic": [f"market.crypto.{channel.name}.binance"] * len(records),
            "partition": pa.array([0] * len(records), pa.int32()),
            "offset": pa.array(range(len(records)), pa.int64()),
            "kafka_timestamp": times,
            "bronze_timestamp": times,
        }
    )
    parquet.write_table(bronze, file)
    rows = spark.read.parquet(str(file)).coalesce(1)
    validated = silver.validated(rows, channel, {_SCHEMA_ID: channel.schema}, "BINANCE")
    gold.to_gold(silver.records(validated, channel), channel).writeTo(channel.gold.identifier).append()
    file.unlink()


def _bytes(spark: SparkSession, channel: Channel) -> dict[str, int]:
    files = spark.table(f"{channel.gold.identifier}.files").select("file_path").collect()
    return column_bytes(Path(unquote(urlsplit(row["file_path"]).path)) for row in files)


def column_bytes(files: Iterable[Path]) -> dict[str, int]:
    """Return the compressed bytes of each column of Parquet files, and of the rest."""
    sizes: Counter[str] = Counter()
    for file in files:
        metadata: Any = parquet.read_metadata(file)
        for group in range(metadata.num_row_groups):
            for place in range(metadata.num_columns):
                column = metadata.row_group(group).column(place)
                sizes[column.path_in_schema] += column.total_compressed_size
                sizes[FOOTER] -= column.total_compressed_size
        sizes[FOOTER] += file.stat().st_size
    return dict(sizes)


if __name__ == "__main__":
    bootstrap.exit_process(main(Path(sys.argv[1]), *sys.argv[2:]))
