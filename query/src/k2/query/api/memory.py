"""Memory of a server that answers in megabytes: kept where it is needed again, and not looked through for garbage."""

import ctypes
import gc
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

# Of malloc.h; glibc takes no more than 32 MiB for the first.
_MMAP_THRESHOLD: Final = -3, 32 * 1024 * 1024
_TRIM_THRESHOLD: Final = -1, 64 * 1024 * 1024
# What questions load when they are first asked.
_LATER: Final = ("duckdb", "pyarrow.dataset", "pyarrow.parquet", "pyiceberg.catalog.sql", "pyiceberg.io.pyarrow")


def keep() -> bool:
    """Keeps up to 64 MiB for each of glibc's arenas; False where the C library is another.

    Otherwise glibc gives back after each answer what the next one needs, which then comes again page by page.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    return bool(mallopt(*_MMAP_THRESHOLD) and mallopt(*_TRIM_THRESHOLD))


@contextmanager
def settled() -> Iterator[int]:
    """Loads what answers need, and keeps the garbage collector from all that is there now; tells how many objects.

    To look through modules that never go would stop every answer of the moment.
    """
    for name in _LATER:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    try:
        yield gc.get_freeze_count()
    finally:
        gc.unfreeze()
