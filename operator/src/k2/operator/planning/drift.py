"""Whether a live object is what was asked for. Nothing is written when it is, so nothing is restarted.

Only fields that we own count: what the manifest says, and what the live object's managed fields say that we said
before. What the API server, other controllers or a user added is theirs.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from k2.operator import quantities
from k2.operator.desired.naming import MANAGER, Manifest

# What Kubernetes merges lists by. Lists of other objects, and plain values, are one value.
_KEYS: Final = ("name", "mountPath", "containerPort", "uid", "topologyKey")
_AMOUNTS: Final = frozenset({"requests", "limits"})
_EMPTY: Final[tuple[Any, ...]] = (None, "", {}, [], ())
_META: Final = frozenset({"f:metadata", "f:spec", "f:data"})


def differs(desired: Manifest, live: Mapping[str, Any], manager: str = MANAGER) -> bool:
    """Whether the live object must be written again."""
    if any(_changed(desired.get(part), live.get(part)) for part in desired if part not in {"apiVersion", "kind"}):
        return True
    return any(_abandoned(fields, desired) for fields in _ours(live, manager))


def _changed(wanted: Any, found: Any, *, amounts: bool = False) -> bool:
    if isinstance(wanted, Mapping):
        if not isinstance(found, Mapping):
            return wanted not in _EMPTY or found not in _EMPTY
        return any(_changed(value, found.get(key), amounts=amounts or key in _AMOUNTS) for key, value in wanted.items())
    if isinstance(wanted, list | tuple):
        return _list_changed(wanted, found)
    if wanted in _EMPTY and found in _EMPTY:
        return False
    if amounts and (number := quantities.parse(wanted)) is not None:
        return number != quantities.parse(found)
    return bool(wanted != found) or isinstance(wanted, bool) is not isinstance(found, bool)


def _list_changed(wanted: Sequence[Any], found: Any) -> bool:
    if not isinstance(found, list | tuple):
        return bool(wanted) or found not in _EMPTY
    if (key := _merge_key(wanted)) and all(isinstance(item, Mapping) for item in found):
        known = {item.get(key): item for item in found}
        return any(item[key] not in known or _changed(item, known[item[key]]) for item in wanted)
    pairs = zip(wanted, found, strict=False)
    return len(wanted) != len(found) or any(_changed(one, other) for one, other in pairs)


def _merge_key(items: Iterable[Any]) -> str:
    known = list(items)
    if not known or not all(isinstance(item, Mapping) for item in known):
        return ""
    # A mount has a name too, of its volume, and volumes may be mounted twice.
    order = ("mountPath", *_KEYS) if "mountPath" in known[0] else _KEYS
    return next((key for key in order if all(key in item for item in known)), "")


def _ours(live: Mapping[str, Any], manager: str) -> Iterable[Mapping[str, Any]]:
    for entry in live["metadata"].get("managedFields", ()):
        if entry.get("manager") == manager and entry.get("operation") == "Apply" and not entry.get("subresource"):
            fields = entry.get("fieldsV1", {})
            yield {name: value for name, value in fields.items() if name in _META}


def _abandoned(fields: Mapping[str, Any], desired: Any) -> bool:
    """Whether we own a field that we ask for no more."""
    for name, below in fields.items():
        kind, _, rest = name.partition(":")
        if kind == "f":
            if not isinstance(desired, Mapping) or rest not in desired:
                return True
            inner = desired[rest]
        elif kind == "k":
            match = json.loads(rest)
            items = desired if isinstance(desired, list | tuple) else ()
            found = [item for item in items if _is(item, match)]
            if not found:
                return True
            inner = found[0]
        else:  # "." is the thing itself, "v:" a value of a set
            continue
        if _abandoned(below, inner):
            return True
    return False


def _is(item: Any, match: Mapping[str, Any]) -> bool:
    """Whether an item of a list has these keys. Kubernetes adds a port's protocol to them."""
    return isinstance(item, Mapping) and all(item.get(key, value) == value for key, value in match.items())
