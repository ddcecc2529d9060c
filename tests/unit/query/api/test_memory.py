"""Memory that is needed again is kept, and what stays is not looked through for garbage."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
from k2.query.api import memory as heap
kept = heap.keep() if sys.argv[1] == "keep" else None
for warm in (True, False):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        parts = [bytes(8_000_000) + b"x", bytes(12_000_000) + b"x"]
        del parts
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(way: str) -> tuple[str, int]:
    done = subprocess.run([sys.executable, "-c", PROGRAM, way], capture_output=True, text=True, check=True)
    kept, count = done.stdout.split()
    return kept, int(count)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_what_an_answer_took_is_not_asked_for_again() -> None:
    (_, without), (kept, count) = faults("plain"), faults("keep")
    assert kept == "True"
    assert count < without / 10


SETTLED = """
import gc, sys
from k2.query.api import memory as heap
with heap.settled() as count:
    assert all(name in sys.modules for name in heap._LATER)
    looked_at = len(gc.get_objects())
print(count, looked_at, gc.get_freeze_count())
"""


def test_what_is_loaded_is_not_looked_through_while_it_serves() -> None:
    done = subprocess.run([sys.executable, "-c", SETTLED], capture_output=True, text=True, check=True)
    kept, looked_at, after = map(int, done.stdout.split())
    assert kept > 50_000
    assert looked_at < kept / 100
    assert (after, done.stderr) == (0, "")
