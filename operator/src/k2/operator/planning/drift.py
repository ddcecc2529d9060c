"""Drift detection: whether a live object differs from its manifest. If it does not, nothing is written or restarted.

Only fields that the operator owns count: those in the manifest, and those that it applied before according to the
object's managed fields. Fields that the API server, other controllers or users added are ignored.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from k2.operator import quantities
from k2.operator.desired.naming import MANAGER, Manifest

# Keys by which Kubernetes merges lists. Lists of other objects, and lists of plain values, are compared as one value.
_MERGE_KEYS: Final = ("name", "mountPath", "containerPort", "uid", "topologyKey")
_QUANTITY_FIELDS: Final = frozenset({"requests", "limits"})
_EMPTY: Final[tuple[Any, ...]] = (None, "", {}, [], ())
_COMPARED: Final = frozenset({"f:metadata", "f:spec", "f:data"})


def differs(desired: Manifest, live: Mapping[str, Any], manager: str = MANAGER) -> bool:
    """Return whether the live object must be applied again."""
    if any(_changed(desired.get(part), live.get(part)) for part in desired if part not in {"apiVersion", "kind"}):
        return True
    return any(_has_stale_field(fields, desired) for fields in _own_fields(live, manager))


def _changed(desired: Any, live: Any, *, quantity: bool = False) -> bool:
    if isinstance(desired, Mapping):
        if not isinstance(live, Mapping):
            return desired not in _EMPTY or live not in _EMPTY
        return any(
            _changed(value, live.get(key), quantity=quantity or key in _QUANTITY_FIELDS)
            for key, value in desired.items()
        )
    if isinstance(desired, list | tuple):
        return _list_changed(desired, live)
    if desired in _EMPTY and live in _EMPTY:
        return False
    if quantity and (number := quantities.parse(desired)) is not None:
        return number != quantities.parse(live)
    return bool(desired != live) or isinstance(desired, bool) is not isinstance(live, bool)


def _list_changed(desired: Sequence[Any], live: Any) -> bool:
    if not isinstance(live, list | tuple):
        return bool(desired) or live not in _EMPTY
    if (key := _merge_key(desired)) and all(isinstance(item, Mapping) for item in live):
        by_key = {item.get(key): item for item in live}
        return any(item[key] not in by_key or _changed(item, by_key[item[key]]) for item in desired)
    pairs = zip(desired, live, strict=False)
    return len(desired) != len(live) or any(_changed(one, other) for one, other in pairs)


def _merge_key(sequence: Iterable[Any]) -> str:
    items = list(sequence)
    if not items or not all(isinstance(item, Mapping) for item in items):
        return ""
    # A volume mount's name is its volume's, and a volume may be mounted twice.
    order = ("mountPath", *_MERGE_KEYS) if "mountPath" in items[0] else _MERGE_KEYS
    return next((key for key in order if all(key in item for item in items)), "")


def _own_fields(live: Mapping[str, Any], manager: str) -> Iterable[Mapping[str, Any]]:
    for entry in live["metadata"].get("managedFields", ()):
        if entry.get("manager") == manager and entry.get("operation") == "Apply" and not entry.get("subresource"):
            fields = entry.get("fieldsV1", {})
            yield {name: value for name, value in fields.items() if name in _COMPARED}


def _has_stale_field(fields: Mapping[str, Any], desired: Any) -> bool:
    """Return whether we own a field that is no longer in the manifest."""
    for name, below in fields.items():
        kind, _, rest = name.partition(":")
        if kind == "f":
            if not isinstance(desired, Mapping) or rest not in desired:
                return True
            inner = desired[rest]
        elif kind == "k":
            keys = json.loads(rest)
            items = desired if isinstance(desired, list | tuple) else ()
            matching = [item for item in items if _matches(item, keys)]
            if not matching:
                return True
            inner = matching[0]
        else:  # "." is the field itself, "v:" a value of a set
            continue
        if _has_stale_field(below, inner):
            return True
    return False


def _matches(item: Any, keys: Mapping[str, Any]) -> bool:
    """Return whether a list item has these keys. Kubernetes adds a port's protocol to them."""
    return isinstance(item, Mapping) and all(item.get(key, value) == value for key, value in keys.items())
