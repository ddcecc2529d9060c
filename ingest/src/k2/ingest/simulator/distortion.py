"""Messages with what no documentation mentions: additional fields, and items with an impossible value. Pure."""

import json
from collections.abc import Iterator
from typing import Any, Final

_SIDES: Final = ("S", "side", "m")
_EXTRA: Final = "addedLater"


def with_extra_fields(message: bytes | str) -> bytes:
    """Return a JSON message whose objects have one more field and whose rows have one more column."""
    return json.dumps(_extended(json.loads(message)), separators=(",", ":")).encode()


def _extended(value: Any) -> Any:
    if isinstance(value, dict):
        return {**{key: _extended(item) for key, item in value.items()}, _EXTRA: "1"} if value else value
    if isinstance(value, list):
        items = [_extended(item) if isinstance(item, dict | list) else item for item in value]
        is_row = len(items) > 4 and not any(isinstance(item, dict | list) for item in items)
        return [*items, "1"] if is_row else items
    return value


def spoiled(frame: str) -> str:
    """Return a frame in which the middle one of its trades has an impossible side."""
    message = json.loads(frame)
    items = list(_items(message))
    item = items[len(items) // 2]
    if isinstance(item, list):
        item[3] = "None"
    else:
        item[next(key for key in _SIDES if key in item)] = "None"
    return json.dumps(message, separators=(",", ":"))


def place_of_spoiled(count: int) -> int:
    """Return which of `count` trades of a frame `spoiled` changes."""
    return count // 2


def _items(message: Any) -> Iterator[Any]:
    """Yield the trades of a frame: objects with a side, or rows of an array."""
    if isinstance(message, dict):
        if any(key in message for key in _SIDES):
            yield message
        else:
            for value in message.values():
                yield from _items(value)
    elif isinstance(message, list):
        if message and isinstance(message[0], str) and len(message) > 4:
            yield message
        else:
            for value in message:
                yield from _items(value)
