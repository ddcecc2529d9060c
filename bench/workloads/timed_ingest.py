"""`python -m bench.workloads.timed_ingest FILE ...`: K2's ingest, which writes the time of each acknowledgement.

cryptofeed is patched in the same way. Only latency is measured with this variant, at the recorded pace; throughput is
measured with the unchanged programs.
"""

import gc
import json
import sys
import time
from pathlib import Path
from typing import Any

from k2.ingest import __main__ as ingest
from k2.ingest.kafka.publisher import Publisher
from k2.schemas.codecs import avro, wire


def main() -> int:
    """Run until SIGTERM, and return the ingest's exit code."""
    times = Path(sys.argv.pop(1))
    acknowledged: list[tuple[int, bytes]] = []
    original = Publisher._on_report  # noqa: SLF001

    def timed(self: Publisher, number: int, error: Any, message: Any) -> None:
        original(self, number, error, message)
        if error is None:
            acknowledged.append((time.time_ns(), message.value()))

    Publisher._on_report = timed  # type: ignore[method-assign]  # noqa: SLF001
    code = ingest.main()
    rows = [(record["symbol"], int(record["trade_id"]), at) for at, value in acknowledged
            for record in (avro.decode(wire.split(value)[1]),)]  # fmt: skip
    times.write_text(json.dumps(rows), "utf-8")
    return code


if __name__ == "__main__":
    gc.freeze()  # as the ingest does
    sys.exit(main())
