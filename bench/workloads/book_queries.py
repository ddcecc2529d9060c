"""`python -m bench.workloads.book_queries FOLDER HOURS COUNT`: store hours of a recorded book, and read it at instants.

Prints the hours' rows, and the milliseconds of each query, as JSON.
"""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from bench.harness.processes import BenchFailed
from bench.workloads import book_frames
from k2.cli.embedded.layout import Layout
from k2.ingest.exchanges import adapter
from k2.ingest.exchanges.base import SequencedRecord
from k2.ingest.simulator.listings import pair_of
from k2.query.book.reader import BookQuery
from k2.query.engine import Engine
from k2.query.iceberg import catalog, tables
from k2.query.kafka import record_buffer
from k2.query.kafka.validation import Validator
from k2.schemas.channels import BOOK
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.values import to_micros

_START: Final = datetime(2026, 3, 2, tzinfo=UTC)
_HOUR: Final = timedelta(hours=1)
_WARM: Final = 5  # queries before those that are measured


def main(folder: Path, hours: int, count: int) -> int:
    """Write the hours with PyIceberg, then query instants of them in random order."""
    recording, layout, rng = book_frames.load()[0], Layout.at(folder), Random(1)
    layout.root.mkdir(parents=True, exist_ok=True)
    lap, rows = _lap(recording), 0
    with closing(catalog.connect(layout.platform(), create=True)) as opened:
        (gold,) = tables.ensure(opened, [BOOK.gold])
        schema = gold.schema().as_arrow()
        for number in range(hours):
            hour = _hour(lap, number).select(schema.names).cast(schema)
            gold.append(hour)
            rows += hour.num_rows
    span = hours * 3_600_000_000 - 1_000_000
    with closing(Engine(layout.platform())) as engine:
        milliseconds = []
        for _ in range(_WARM + count):
            query = BookQuery.at(
                recording.symbol, "BINANCE", _START + timedelta(microseconds=1_000_000 + rng.randrange(span))
            )
            started_at = time.perf_counter()
            books = engine.books_reader(query).read_all()
            milliseconds.append(1e3 * (time.perf_counter() - started_at))
            if books.column("verdict").to_pylist() != ["verified"]:
                raise BenchFailed(f"no verified book at {query.instants[0]}")
    print(json.dumps({"rows": rows, "milliseconds": milliseconds[_WARM:]}), flush=True)
    return 0


def _lap(recording: book_frames.BookRecording) -> pa.Table:
    """Return the records of one lap, from the first snapshot on, with times from 0."""
    pair = pair_of(EXCHANGES["binance"], recording.symbol)
    reader: Any = adapter("binance", BOOK, [pair])
    now = to_micros(_START)
    encoder, validator = BOOK.encoder(1), Validator(BOOK, {1: BOOK.schema}, "BINANCE")

    def records() -> Iterator[Any]:
        for place, sent in enumerate(recording.lap(0)):
            received = now + int(1e6 * sent.at)
            events = list(reader.parse(sent.frame, received))
            if not place:
                events = list(reader.parse_state(pair, recording.state(0), received))
            yield from (event.record for event in events if isinstance(event, SequencedRecord))

    values = [encoder.encode(record) for record in records()]
    return record_buffer.table(BOOK, [validator.validate(value, None, now + 3_600_000_000) for value in values])


def _hour(lap: pa.Table, number: int) -> pa.Table:
    """Return the rows of Gold of one hour: laps one after the other, each of which begins with a snapshot."""
    first = pc.index(lap["kind"], "snapshot").as_py()
    lap = lap.slice(first)
    times = lap["timestamp"].cast("int64")
    begin, length = pc.min(times).as_py(), pc.max(times).as_py() - pc.min(times).as_py() + 100_000
    start, hour = to_micros(_START + number * _HOUR), 3_600_000_000
    ids = pc.max(lap["last_id"]).as_py() - pc.min(lap["last_id"]).as_py() + 1
    per_hour = -(-hour // length)
    parts = []
    for turn in range(per_hour):
        laps = number * per_hour + turn
        shifted = pc.add(times, start + turn * length - begin)
        part = lap
        for name, values in {
            "timestamp": shifted.cast(lap.schema.field("timestamp").type),
            "ingestion_timestamp": shifted.cast(lap.schema.field("ingestion_timestamp").type),
            "first_id": pc.add(lap["first_id"], laps * ids),
            "last_id": pc.add(lap["last_id"], laps * ids),
            "ordinal": pc.add(lap["ordinal"], laps * lap.num_rows),
        }.items():
            part = part.set_column(part.schema.get_field_index(name), name, values)
        parts.append(part.filter(pc.less(shifted, start + hour)))
    rows = pa.concat_tables(parts)
    moment = _START + number * _HOUR
    constants = {
        "gold_ingestion_timestamp": pa.scalar(moment, pa.timestamp("us", "UTC")),
        "exchange_date": pa.scalar(moment.date(), pa.date32()),
        "exchange_hour": pa.scalar(moment.hour, pa.int32()),
    }
    for name, value in constants.items():
        rows = rows.append_column(name, pa.repeat(value, rows.num_rows))
    return rows


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
