"""`python -m bench.workloads.timed_ingest FILE ...`: K2's ingest, which also writes the time of each acknowledgement.

The same is done to cryptofeed. Only latencies are measured this way, at the recorded pace; throughput is that of the
programs as they are.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from k2.ingest import __main__ as ingest
from k2.ingest.kafka.publisher import Publisher
from k2.schemas.codecs import avro, wire


def main() -> int:
    """Runs until SIGTERM; returns the ingest's own exit code."""
    times = Path(sys.argv.pop(1))
    found: list[tuple[int, bytes]] = []
    reported = Publisher._on_trade  # noqa: SLF001

    def timed(self: Publisher, arrived: int, error: Any, message: Any) -> None:
        reported(self, arrived, error, message)
        if error is None:
            found.append((time.time_ns(), message.value()))

    Publisher._on_trade = timed  # type: ignore[method-assign]  # noqa: SLF001
    code = ingest.main()
    rows = [(record["symbol"], int(record["trade_id"]), at) for at, value in found
            for record in (avro.decode(wire.split(value)[1]),)]  # fmt: skip
    times.write_text(json.dumps(rows), "utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main())
