"""Commands of K2 that run statements, and the processes in which they do."""

import sys
import time
from typing import Final

import psutil

# A background job, as a test run may be, ignores SIGINT and SIGHUP: env gives the command their usual effects.
K2: Final = ["env", "--default-signal=INT,HUP", sys.executable, "-m", "k2.cli.main"]
HANG: Final = 60.0  # seconds after which a process that should end is said to hang; the machine may be slow


def statement_processes(command: int) -> list[psutil.Process]:
    """Wait until a statement runs below the process `command`; return its fork server and that server's processes."""
    until = time.monotonic() + HANG
    while time.monotonic() < until:
        processes = psutil.Process(command).children(recursive=True)
        if any(process.cpu_times().user > 0.3 for process in processes[1:]):
            return processes
        time.sleep(0.05)
    raise AssertionError("no statement runs")
