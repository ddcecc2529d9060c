"""Generate docs/reference/exchangefeed-fields.md from the CustomResourceDefinition, for readme.py (`make charts`)."""  # noqa: INP001

import re
from collections.abc import Iterator
from typing import Any, Final

from k2.schemas.feed import crd

Schema = dict[str, Any]

_HEAD: Final = """\
# Fields of an ExchangeFeed

<!-- Generated from the CustomResourceDefinition by `make charts`; change the model, not this page. -->

The schema of a feed: every field of `spec` and `status`, and every validation rule with its error message.
[ExchangeFeed](exchangefeed.md) explains the fields, [Conditions](conditions.md) the status.
"""
_RULES: Final = """
## Rules

The checks of the API server beyond types and limits, with their error messages. If a symbol is invalid, the message
names it in place of `spec.symbols`. `[]` stands for each entry.

| Field | Message |
|---|---|
"""
_LIMITS: Final = (
    ("minimum", "maximum", ""),
    ("minItems", "maxItems", " entries"),
    ("minLength", "maxLength", " characters"),
    ("minProperties", "maxProperties", " entries"),
)
_MUST: Final = "must be "
_OF_EXCHANGE: Final = re.compile("self.exchange != '([a-z]+)' ")


def text() -> str:
    """Return the text of the page."""
    definition = crd.definition()["spec"]
    version = definition["versions"][0]
    root = version["schema"]["openAPIV3Schema"]
    return "".join([_HEAD, *_names(definition, version), *_sections(root), *_rules(root)])


def _names(definition: Schema, version: Schema) -> Iterator[str]:
    short = ", ".join(f"`{name}`" for name in definition["names"]["shortNames"])
    categories = ", ".join(f"`{name}`" for name in definition["names"]["categories"])
    api = f"{definition['group']}/{version['name']}"
    yield f"\n`apiVersion: {api}`, `kind: {definition['names']['kind']}`, {definition['scope'].lower()}. "
    yield f"Short names: {short}; category: {categories}.\n"
    yield "\n## Columns of kubectl get feeds\n\n| Column | Shows | Only with `-o wide` |\n|---|---|---|\n"
    for column in version["additionalPrinterColumns"]:
        wide = "yes" if column.get("priority") else ""
        yield f"| {column['name'].upper()} | `{column['jsonPath'].removeprefix('.')}` | {wide} |\n"


def _sections(root: Schema) -> Iterator[str]:
    for part in ("spec", "status"):
        schema = root["properties"][part]
        yield from _section(part, schema, 1)
        for name, field in schema["properties"].items():
            if _fields(field):
                yield from _section(f"{part}.{name}", field, 9)


def _section(path: str, schema: Schema, depth: int) -> Iterator[str]:
    defaults = path.startswith("spec")
    head = "| Field | Type | Default | Allowed | Description |\n|---|---|---|---|---|\n"
    yield f"\n## {path}\n\n{schema['description']}\n\n"
    yield head if defaults else head.replace(" Default |", "", 1).replace("---|", "", 1)
    for where, field, required in _rows(path, schema, depth):
        default = "required" if required else _default(field)
        cells = (f"`{where}`", _type(field), *([default] if defaults else []), _allowed(field), field["description"])
        yield f"| {' | '.join(_escaped(cell) for cell in cells)} |\n"


def _rows(path: str, schema: Schema, depth: int) -> Iterator[tuple[str, Schema, bool]]:
    element = schema.get("items", schema)
    prefix = f"{path}{'[]' if 'items' in schema else ''}"
    for name, field in element["properties"].items():
        where = f"{prefix}.{name}"
        yield where, field, name in element.get("required", ())
        if depth > 1 and _fields(field):
            yield from _rows(where, field, depth - 1)


def _fields(field: Schema) -> bool:
    return "properties" in field.get("items", field)


def _type(field: Schema) -> str:
    if field.get("format") == "date-time":
        return "time"
    if "items" in field:
        return f"list of {field['items']['type']}s"
    if "additionalProperties" in field:
        return f"map of {field['additionalProperties']['type']}s"
    return "integer or string" if field.get("x-kubernetes-int-or-string") else str(field["type"])


def _default(field: Schema) -> str:
    if "default" not in field:
        return ""
    if _fields(field):
        return "the defaults of its fields"
    default = field["default"]
    if isinstance(default, str):
        return f"`{default}`" if default else '`""`'
    return f"`{str(default).lower()}`"


def _allowed(field: Schema) -> str:
    allowed = [" or ".join(f"`{word}`" for word in field["enum"])] if "enum" in field else []
    allowed += [
        _between(field.get(low), field.get(high), what) for low, high, what in _LIMITS if {low, high} & set(field)
    ]
    messages = [rule["message"] for rule in field.get("x-kubernetes-validations", ())]
    allowed += [message.removeprefix(_MUST).partition(";")[0] for message in messages if message.startswith(_MUST)]
    if "pattern" in field and not messages:
        allowed.append(f"matches `{field['pattern']}`")
    if field.get("x-kubernetes-list-type") == "set":
        allowed.append("unique entries")
    if keys := field.get("x-kubernetes-list-map-keys"):
        allowed.append(f"unique by `{keys[0]}`")
    element = field.get("items") or field.get("additionalProperties")
    if element and not _fields(element) and (each := _allowed(element)):
        allowed.append(f"each entry: {each}")
    if field.get("x-kubernetes-preserve-unknown-fields"):
        allowed.append("as in Kubernetes")
    return "; ".join(allowed)


def _between(low: int | None, high: int | None, what: str) -> str:
    if low is None:
        return f"at most {high}{what}"
    return f"at least {low}{what}" if high is None else f"{low} to {high}{what}"


def _rules(root: Schema) -> Iterator[str]:
    rules: dict[str, list[str]] = {}
    for where, rule in _ruled("", root):
        message = rule["message"]
        if "oldSelf" in rule["rule"]:
            message = f"{message} (checked when a feed changes)"
        places = rules.setdefault(message, [])
        of = _OF_EXCHANGE.match(rule["rule"])
        place = f"`{where}`{f' of {of[1]}' if of else ''}" if where else "the whole object"
        if place not in places:
            places.append(place)
    yield _RULES
    for message, places in rules.items():
        yield f"| {'<br>'.join(places)} | {_escaped(message)} |\n"


def _ruled(path: str, schema: Schema) -> Iterator[tuple[str, Schema]]:
    for rule in schema.get("x-kubernetes-validations", ()):
        yield f"{path}{rule.get('fieldPath', '')}", rule
    for name, field in schema.get("properties", {}).items():
        yield from _ruled(f"{path}.{name}".removeprefix("."), field)
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from _ruled(f"{path}[]", schema[key])


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|") if "`" in cell else cell.replace("|", "\\|").replace("<", "&lt;")
