"""Objects that watches saw, kept small: as JSON, compressed, and without what other managers say of their fields.

As dictionaries the children of some hundred feeds would need more memory than everything else of the operator.
"""

import zlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from k2.operator.desired.naming import MANAGER

_FAST: Final = 1


def pack(raw: Mapping[str, Any]) -> bytes:
    """An object, small."""
    about = {**raw["metadata"]}
    if fields := about.get("managedFields"):
        about["managedFields"] = [entry for entry in fields if entry.get("manager") == MANAGER]
    return zlib.compress(msgspec.json.encode({**raw, "metadata": about}), _FAST)


def unpack(packed: bytes) -> dict[str, Any]:
    """The object again."""
    return msgspec.json.decode(zlib.decompress(packed), type=dict[str, Any])
