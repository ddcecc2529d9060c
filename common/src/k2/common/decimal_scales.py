"""Decimal scales in Avro schemas, which Avro's compatibility rules ignore.

A decimal is plain bytes: read with another scale, 1.5 becomes 0.00015 without an error. A change of scale is therefore
as incompatible as a change of type.
"""

import json
from collections.abc import Iterator
from typing import Any


def scale_changes(newer: str, older: str) -> list[str]:
    """Return the decimals of two schemas (JSON texts) whose scale differs, such as "price: scale 8, not 12"."""
    scales = dict(_scales(json.loads(older), ""))
    return [
        f"{path}: scale {scales[path]}, not {scale}"
        for path, scale in _scales(json.loads(newer), "")
        if scales.get(path, scale) != scale
    ]


def _scales(node: Any, path: str) -> Iterator[tuple[str, int]]:
    """Yield the path and the scale of each decimal."""
    match node:
        case {"logicalType": "decimal"}:
            yield path, int(node.get("scale", 0))
        case {"type": "record", "fields": fields}:
            for field in fields:
                yield from _scales(field["type"], f"{path}.{field['name']}".lstrip("."))
        case {"type": "array", "items": items} | {"type": "map", "values": items}:
            yield from _scales(items, f"{path}[]")
        case {"type": inner}:
            yield from _scales(inner, path)
        case [*branches]:
            for branch in branches:
                yield from _scales(branch, path)
