"""`python -m bench.workloads.gold_size FOLDER`: write recorded trades to Gold as the layers do, then compact them.

Prints the bytes of each column as JSON: `{"trades": N, "before": {column: bytes}, "after": {column: bytes}}`. Every
byte of the files counts; what belongs to no column (footers and page indexes) is `footer`.
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

from bench.workloads import frames
from k2.common.platform import Platform
from k2.ingest.exchanges.base import SequencedRecord
from k2.ingest.exchanges.binance.parse import Binance
from k2.ingest.simulator.listings import pair_of
from k2.jobs import bootstrap
from k2.jobs.layers import gold, silver
from k2.jobs.maintenance.runner import Maintenance
from k2.jobs.spark import tables
from k2.schemas.channels import TRADES, exchange_tables
from k2.schemas.codecs import avro
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.records.trade import Trade

COMMIT: Final = 2_000  # trades in a commit
FOOTER: Final = "footer"
_SCHEMA_ID: Final = 1
_FIRST_ID: Final = 3_000_000_000  # ids of as many digits as Binance's


def main(folder: Path) -> int:
    """Write and compact, in a catalog of the environment's platform; staging files are in the folder."""
    spark = bootstrap.connect(Platform.read(), "local[2]", "1g")
    tables.ensure(spark, exchange_tables("binance"))
    trades = recorded_trades()
    for first in range(0, len(trades), COMMIT):
        _append(spark, trades[first : first + COMMIT], folder / f"{first}.parquet")
    before = _bytes(spark)
    maintenance = Maintenance(spark, Platform.read(), [])
    maintenance._compact(TRADES.gold, datetime.now(UTC) + timedelta(days=1))  # noqa: SLF001 - one step of a round
    print(json.dumps({"trades": len(trades), "before": before, "after": _bytes(spark)}), flush=True)
    return 0


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


def _append(spark: SparkSession, trades: Sequence[Trade], file: Path) -> None:
    """Append one commit to Gold: Bronze rows through the transforms of Silver and Gold, in one task."""
    encoder = avro.TradeEncoder(_SCHEMA_ID)
    times = pa.array([trade.ingestion_timestamp for trade in trades], pa.timestamp("us", "UTC"))
    bronze = pa.table(
        {
            "value": [encoder.encode(trade) for trade in trades],
            "key": [trade.symbol.encode() for trade in trades],
            "topic": ["market.crypto.trades.binance"] * len(trades),
            "partition": pa.array([0] * len(trades), pa.int32()),
            "offset": pa.array(range(len(trades)), pa.int64()),
            "kafka_timestamp": times,
            "bronze_timestamp": times,
        }
    )
    parquet.write_table(bronze, file)
    rows = spark.read.parquet(str(file)).coalesce(1)
    valid = silver.records(silver.validated(rows, TRADES, {_SCHEMA_ID: avro.text()}, "BINANCE"), TRADES)
    gold.to_gold(valid, TRADES).writeTo(TRADES.gold.identifier).append()
    file.unlink()


def _bytes(spark: SparkSession) -> dict[str, int]:
    files = spark.table(f"{TRADES.gold.identifier}.files").select("file_path").collect()
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
    bootstrap.exit_process(main(Path(sys.argv[1])))
