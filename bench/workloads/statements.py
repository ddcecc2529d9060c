"""A small SQL statement of a user in its own process, and the same one on a connection in this process."""

import time
from contextlib import closing
from typing import TYPE_CHECKING, Final

import duckdb

from bench.harness.figures import Figure, Goal, number, order, quantile
from k2.query.engine import Engine
from k2.query.iceberg import data_files
from k2.query.iceberg.scan_planner import ScanPlanner
from k2.query.sql.quoting import quote_literal
from k2.schemas.tables import GOLD

if TYPE_CHECKING:
    from collections.abc import Callable

    from k2.common.platform import Platform

CAGE, SAME_PROCESS = "K2, a process per statement", "DuckDB in the server's process"
STATEMENT: Final = f"SELECT symbol, price FROM {GOLD} LIMIT 10"  # noqa: S608
_COST: Final = 20.0  # milliseconds


def cost(platform: "Platform", count: int) -> tuple[list[Figure], Goal]:
    """Return the latencies of both in milliseconds, and whether the process costs little."""
    latencies: dict[str, list[float]] = {CAGE: [], SAME_PROCESS: []}
    with closing(Engine(platform, warm=2)) as engine, closing(ScanPlanner(platform)) as planner:
        ways: dict[str, Callable[[], int]] = {
            CAGE: lambda: engine.sql(STATEMENT).num_rows,
            SAME_PROCESS: lambda: _in_this_process(planner),
        }
        for run in ways.values():
            run()
        for turn in range(count):
            for name in order(list(ways), turn):
                began = time.perf_counter()
                ways[name]()
                latencies[name].append(1000 * (time.perf_counter() - began))
    figures = [
        Figure(name, f"a small SQL statement, p{100 * share:.0f}", "ms", [quantile(latencies[name], share)])
        for name in latencies
        for share in (0.5, 0.99)
    ]
    own, rival = (quantile(latencies[name], 0.5) for name in (CAGE, SAME_PROCESS))
    return figures, Goal(
        f"a small SQL statement in its own process takes at most {_COST:.0f} ms longer",
        f"{number(own - rival)} ms",
        own - rival < _COST,
        f"{number(own)} ms, and {number(rival)} ms in the same process",
    )


def _in_this_process(planner: ScanPlanner) -> int:
    """Run the statement on a connection of its own that may read the table's files only, and return its rows."""
    planner.names()
    plan = planner.plan(GOLD)
    with duckdb.connect(config={"temp_directory": ""}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"SET allowed_paths = [{', '.join(map(quote_literal, data_files.paths(plan)))}]")
        connection.execute("SET enable_external_access = false")
        data_files.attach(connection, GOLD, plan)
        connection.execute("SET lock_configuration = true")
        return int(connection.sql(STATEMENT).to_arrow_table().num_rows)
