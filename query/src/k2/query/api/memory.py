"""Allocator and garbage-collector tuning for a server whose responses have megabytes."""

import ctypes
import gc
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

# Constants of malloc.h; glibc caps the first at 32 MiB.
_MMAP_THRESHOLD: Final = -3, 32 * 1024 * 1024
_TRIM_THRESHOLD: Final = -1, 64 * 1024 * 1024
# Modules that the first query would import.
_LAZY_IMPORTS: Final = ("duckdb", "pyarrow.dataset", "pyarrow.parquet", "pyiceberg.catalog.sql", "pyiceberg.io.pyarrow")


def retain_freed_memory() -> bool:
    """Let glibc retain up to 64 MiB of freed memory per arena; return False for another C library.

    Otherwise glibc returns the memory to the kernel after each response, and the next one faults it in page by page.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    return bool(mallopt(*_MMAP_THRESHOLD) and mallopt(*_TRIM_THRESHOLD))


@contextmanager
def frozen_heap() -> Iterator[int]:
    """Import what queries need and exclude all current objects from garbage collection; yield their number.

    Scanning modules that are never freed would pause every response in progress.
    """
    for name in _LAZY_IMPORTS:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    try:
        yield gc.get_freeze_count()
    finally:
        gc.unfreeze()
