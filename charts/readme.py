#!/usr/bin/env python3
"""Writes what of the charts is made from something else: `make charts`; with --check says what differs, and exits 1.

- A chart's README.md is its README.in.md, with every value in place of the line `<values>`: its description and type
  from values.schema.json, its default from values.yaml, or else from the schema.
- k2-operator's copy of the CRD is manifests/crds/exchangefeeds.yaml.
- k2-operator's schema of `settings` is the model's, k2.operator.settings. Descriptions for users, and patterns for
  what the model checks in code, are written in the schema and kept.
"""

import difflib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from k2.operator.settings import Settings

Schema = dict[str, Any]

ROOT: Final = Path(__file__).parent
_VALUES: Final = "<values>"
_CRD: Final = ROOT.parent / "manifests/crds/exchangefeeds.yaml"
_FROM_MODEL: Final = ("type", "enum", "items", "additionalProperties", "pattern", "default")
_BOUNDS: Final = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength")
_IMAGES: Final = frozenset({"ingestImage", "jobsImage"})  # the chart's `images`


class Undescribed(ValueError):
    """A value that nothing describes, or that stands in one file and not in the other."""


def made() -> Iterator[tuple[Path, str]]:
    """Every file that is made, and its text."""
    yield ROOT / "k2-operator/files/exchangefeeds.yaml", _CRD.read_text("utf-8")
    path = ROOT / "k2-operator/values.schema.json"
    schema = json.loads(path.read_text("utf-8"))
    schema["properties"]["settings"] |= _settings(schema["properties"]["settings"]["properties"])
    yield path, json.dumps(schema, indent=2) + "\n"
    for source in sorted(ROOT.glob("*/README.in.md")):
        chart = source.parent
        own = schema if chart.name == "k2-operator" else json.loads((chart / "values.schema.json").read_text("utf-8"))
        values = yaml.safe_load((chart / "values.yaml").read_text("utf-8"))
        text = source.read_text("utf-8").replace(f"{_VALUES}\n", "".join(_table(own, values)))
        yield chart / "README.md", text


def _settings(written: Schema) -> Schema:
    model = Settings.model_json_schema(by_alias=True)
    properties, required = {}, [name for name in model["required"] if name not in _IMAGES]
    for name, field in model["properties"].items():
        if name in _IMAGES:
            continue
        kept = {key: written[name][key] for key in ("description", "pattern") if key in written.get(name, {})}
        if name in required and field["type"] == "string":
            kept["minLength"] = 1
        known = {key: field[key] for key in (*_FROM_MODEL, *_BOUNDS) if key in field}
        described = {"description": _sentence(field["description"])} if "description" in field else {}
        properties[name] = described | kept | known
    return {"required": required, "properties": properties}


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:].rstrip('.')}."


def _table(schema: Schema, values: Any) -> Iterator[str]:
    yield "| Value | Type | Default | Description |\n|---|---|---|---|\n"
    for path, field, default in _leaves(schema, values, ""):
        cells = (f"`{path}`", _type(field), _default(default), field["description"].replace("|", "\\|"))
        yield f"| {' | '.join(cells)} |\n"


def _leaves(schema: Schema, values: Any, path: str) -> Iterator[tuple[str, Schema, Any]]:
    """Every value that is set by itself. Raises `Undescribed` where the two files are not of one mind."""
    known = schema["properties"]
    if strangers := sorted(set(values) - set(known)):
        raise Undescribed(f"{path}{strangers[0]} is in values.yaml and not in values.schema.json")
    for name, field in known.items():
        where = f"{path}{name}"
        if not field.get("description"):
            raise Undescribed(f"{where} has no description in values.schema.json")
        if name == "global":
            continue
        if name not in values and "default" not in field and field["type"] != "object":
            raise Undescribed(f"{where} has no default in values.yaml")
        given = values.get(name, field.get("default"))
        if field.get("properties") and given not in ({}, None) and name != "resources":
            yield from _leaves(field, given, f"{where}.")
        else:
            yield where, field, given


def _type(field: Schema) -> str:
    if "enum" in field:
        return " or ".join(f"`{word}`" for word in field["enum"])
    kind = field["type"]
    if kind == "array":
        return f"list of {field['items'].get('type', 'any')}s"
    return "map" if kind == "object" else " or ".join([kind] if isinstance(kind, str) else kind)


def _default(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return f"`{text}`".replace("|", "\\|")


def main(words: list[str]) -> int:
    """Writes the files, or compares them."""
    same = True
    for path, text in made():
        old = path.read_text("utf-8") if path.exists() else ""
        if words == ["--check"]:
            same = same and old == text
            name = str(path.relative_to(ROOT.parent))
            sys.stdout.writelines(difflib.unified_diff(old.splitlines(True), text.splitlines(True), name, "made anew"))
        elif old != text:
            path.write_text(text, "utf-8")
    if not same:
        print("run: make charts", file=sys.stderr)
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
