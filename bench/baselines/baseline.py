"""`python -m bench.baselines.baseline`: a plain consumer from Kafka to one Iceberg table.

It reads every partition from the beginning, decodes with fastavro, drops duplicate ids, and appends 100,000 rows at a
time with PyIceberg. The ids are in memory only, nothing is validated, and a restart reads everything again.
"""

import argparse
import sys
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow as pa
from confluent_kafka import Consumer, TopicPartition
from fastavro import schemaless_reader
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.io.pyarrow import schema_to_pyarrow

from k2.query.iceberg import tables
from k2.schemas.codecs import avro
from k2.schemas.tables import GOLD_TABLE, NAMESPACE, TRADE_COLUMNS

NAME: Final = "baseline_trades"
_HEADER: Final = 5
_ROWS: Final = 100_000


def main() -> int:
    """Consume `--count` records, then exit."""
    parser = argparse.ArgumentParser(prog="bench.baselines.baseline")
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    arguments = parser.parse_args()
    table = open_catalog(arguments.folder).create_table(
        (NAMESPACE, NAME), _columns(), properties={"write.parquet.compression-codec": "zstd"}
    )
    schema, reader = schema_to_pyarrow(table.schema(), include_field_ids=False), avro.load()
    consumer = Consumer({"bootstrap.servers": arguments.bootstrap, "group.id": "baseline", "enable.auto.commit": False})
    partitions = consumer.list_topics(arguments.topic, timeout=10).topics[arguments.topic].partitions
    consumer.assign([TopicPartition(arguments.topic, number, 0) for number in partitions])
    message_ids: set[str] = set()
    rows: list[dict[str, Any]] = []
    consumed = 0
    while consumed < arguments.count:
        for message in consumer.consume(10_000, timeout=1.0):
            if message.error():
                raise SystemExit(str(message.error()))
            consumed += 1
            record: Any = schemaless_reader(BytesIO((message.value() or b"")[_HEADER:]), reader, None)
            record["message_id"] = str(record["message_id"])  # fastavro returns a UUID, which Arrow cannot convert
            if record["message_id"] in message_ids:
                continue
            message_ids.add(record["message_id"])
            record["vendor_data"] = msgspec.json.encode(record["vendor_data"]).decode()
            rows.append(record)
        if len(rows) >= _ROWS or consumed >= arguments.count:
            table.append(pa.Table.from_pylist(rows, schema=schema))
            rows.clear()
    consumer.close()
    return 0


def open_catalog(folder: Path) -> SqlCatalog:
    """Return the catalog of the baseline."""
    folder.mkdir(parents=True, exist_ok=True)
    catalog = SqlCatalog("baseline", uri=f"sqlite:///{folder}/baseline.db", warehouse=f"file://{folder}/baseline")
    catalog.create_namespace_if_not_exists(NAMESPACE)
    return catalog


def _columns() -> Any:
    gold = tables.schema(GOLD_TABLE)
    return gold.select(*TRADE_COLUMNS)


if __name__ == "__main__":
    sys.exit(main())
