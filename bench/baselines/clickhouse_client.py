"""ClickHouse as a library, in its own process and environment: `clickhouse_client.py FOLDER GLOB`.

Load the Parquet files into a table sorted by symbol and time, and print that it is done. Then each line of input is
a number of clients and their statements; each line of output has the milliseconds and the rows of each statement.
"""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import chdb
import pyarrow as pa


def main(folder: str, files: str) -> None:
    """Run statements until the input ends."""
    connection = chdb.connect(folder)
    started_at = time.perf_counter()
    connection.query("CREATE DATABASE bench ENGINE = Atomic")
    connection.query(
        "CREATE TABLE bench.gold ENGINE = MergeTree ORDER BY (symbol, timestamp) SETTINGS allow_nullable_key = 1 "
        f"AS SELECT * FROM file('{files}', Parquet)"
    )
    connection.query("OPTIMIZE TABLE bench.gold FINAL")
    reply({"version": chdb.engine_version, "seconds": time.perf_counter() - started_at})

    def run(statement: str) -> tuple[float, int]:
        started_at = time.perf_counter()
        result = connection.query(statement, "ArrowStream")
        table = pa.ipc.open_stream(result.bytes()).read_all()
        return (time.perf_counter() - started_at) * 1000, table.num_rows

    for line in sys.stdin:
        request = json.loads(line)
        with ThreadPoolExecutor(request["clients"]) as clients:
            reply(list(clients.map(run, request["statements"])))


def reply(value: object) -> None:
    """Print a value as one line of JSON."""
    print(json.dumps(value), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
