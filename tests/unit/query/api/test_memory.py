"""Freed memory is retained, and long-lived objects are excluded from garbage collection."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
from k2.query.api import memory as heap
retained = heap.retain_freed_memory() if sys.argv[1] == "retain" else None
for warm in (True, False):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        parts = [bytes(8_000_000) + b"x", bytes(12_000_000) + b"x"]
        del parts
print(retained, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(way: str) -> tuple[str, int]:
    done = subprocess.run([sys.executable, "-c", PROGRAM, way], capture_output=True, text=True, check=True)
    retained, count = done.stdout.split()
    return retained, int(count)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_freed_memory_is_retained_for_the_next_response() -> None:
    (_, without), (retained, count) = faults("plain"), faults("retain")
    assert retained == "True"
    assert count < without / 10


FROZEN = """
import gc, sys
from k2.query.api import memory as heap
with heap.frozen_heap() as count:
    assert all(name in sys.modules for name in heap._LAZY_IMPORTS)
    tracked = len(gc.get_objects())
print(count, tracked, gc.get_freeze_count())
"""


def test_imported_modules_are_not_scanned_while_serving() -> None:
    done = subprocess.run([sys.executable, "-c", FROZEN], capture_output=True, text=True, check=True)
    frozen, tracked, after = map(int, done.stdout.split())
    assert frozen > 50_000
    assert tracked < frozen / 100
    assert (after, done.stderr) == (0, "")
