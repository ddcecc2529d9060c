"""Configuration hashes, independent of key order and process."""

import hashlib
import json
from typing import Any, Final

_LENGTH: Final = 16


def digest(value: Any) -> str:
    """Return a short hash of a JSON value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_LENGTH]
