"""The memory limit of this container."""

import math
from pathlib import Path


def memory_limit(
    files: tuple[str, ...] = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"),
) -> float:
    """Return the memory limit of this container in bytes (cgroup v2 or v1); infinite if there is none."""
    for name in files:
        try:
            text = Path(name).read_text(encoding="ascii").strip()
        except OSError:
            continue
        return float(text) if text.isdigit() else math.inf
    return math.inf
