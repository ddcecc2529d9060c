"""ClickHouse as a library, in its own process and environment: `clickhouse_client.py FOLDER GLOB`.

Loads the Parquet files into a table of its own, sorted by symbol and time, and says so. Then each line of its input
is a number of clients and their statements; each line of its output what every statement took, in ms, and its rows.
"""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import chdb
import pyarrow as pa


def main(folder: str, files: str) -> None:
    """Until its input ends."""
    connection = chdb.connect(folder)
    began = time.perf_counter()
    connection.query("CREATE DATABASE bench ENGINE = Atomic")
    connection.query(
        "CREATE TABLE bench.gold ENGINE = MergeTree ORDER BY (symbol, timestamp) SETTINGS allow_nullable_key = 1 "
        f"AS SELECT * FROM file('{files}', Parquet)"
    )
    connection.query("OPTIMIZE TABLE bench.gold FINAL")
    say({"version": chdb.engine_version, "seconds": time.perf_counter() - began})

    def ask(statement: str) -> tuple[float, int]:
        began = time.perf_counter()
        answer = connection.query(statement, "ArrowStream")
        found = pa.ipc.open_stream(answer.bytes()).read_all()
        return (time.perf_counter() - began) * 1000, found.num_rows

    for line in sys.stdin:
        asked = json.loads(line)
        with ThreadPoolExecutor(asked["clients"]) as clients:
            say(list(clients.map(ask, asked["statements"])))


def say(what: object) -> None:
    """One line."""
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
