#!/usr/bin/env python3
"""Write the generated files of the charts (`make charts`); with --check print differences and exit 1.

- A chart's README.md is its README.in.md with a table of values in place of the line `<values>`: descriptions and types
  from values.schema.json, defaults from values.yaml or the schema.
- docs/reference/exchangefeed-fields.md documents the fields of the CRD: `reference.text`.
- The tables of docs/reference/rbac.md are the rules that k2-operator renders. Without helm they are left unchanged.
- k2-operator's copy of the CRD is manifests/crds/exchangefeeds.yaml.
- k2-operator's schema of `settings` comes from the model k2.operator.settings. Its descriptions, and patterns for
  checks that the model does in code, are maintained in the schema.
"""

import difflib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import reference
import yaml

from k2.operator.settings import Settings

Schema = dict[str, Any]

ROOT: Final = Path(__file__).parent
_VALUES: Final = "<values>"
_CRD: Final = ROOT.parent / "manifests/crds/exchangefeeds.yaml"
_RBAC_PAGE: Final = ROOT.parent / "docs/reference/rbac.md"
_FIELDS: Final = ROOT.parent / "docs/reference/exchangefeed-fields.md"
_RBAC_TABLES: Final = re.compile("(?<=<!-- rights -->\n).*(?=<!-- end of rights -->)", re.DOTALL)
_HOLDERS: Final = {
    ("Role", "k2-operator"): "The operator, in each feed namespace",
    ("Role", "k2-operator-lease"): "The operator, in its own namespace",
    ("ClusterRole", "k2-operator-k2"): "The operator, cluster-wide",
    ("Role", "k2-spark"): "Spark drivers, in their namespace",
    ("ClusterRole", "k2-operator-k2-view"): "Users with view, edit or admin in a namespace",
    ("ClusterRole", "k2-operator-k2-edit"): "Users with edit or admin in a namespace",
    ("ClusterRole", "k2-operator-k2-admin"): "Users with admin in a namespace",
}
_FROM_MODEL: Final = ("type", "enum", "items", "additionalProperties", "pattern", "default")
_BOUNDS: Final = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength")
_IMAGES: Final = frozenset({"ingestImage", "jobsImage"})  # the chart's `images`


class InconsistentChart(ValueError):
    """A value without a description, or one that is missing in values.yaml or values.schema.json."""


def generated_files() -> Iterator[tuple[Path, str]]:
    """Yield path and text of every generated file."""
    yield ROOT / "k2-operator/files/exchangefeeds.yaml", _CRD.read_text("utf-8")
    yield _FIELDS, reference.text()
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
    if helm := shutil.which("helm", path=f"{os.environ['PATH']}:{os.environ.get('KUBEBUILDER_ASSETS', '')}"):
        tables = "".join(_rbac_tables(helm))
        yield _RBAC_PAGE, _RBAC_TABLES.sub(lambda _: tables, _RBAC_PAGE.read_text("utf-8"))


def _rbac_tables(helm: str) -> Iterator[str]:
    words = [helm, "template", "k2-operator", str(ROOT / "k2-operator"), "--namespace=k2", "--kube-version=1.34.0"]
    rendered = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    roles = {
        (manifest["kind"], manifest["metadata"]["name"]): manifest
        for manifest in yaml.safe_load_all(rendered)
        if manifest
    }
    for key, holder in _HOLDERS.items():
        yield f"\n## {holder}\n\n| API group | Resources | Verbs |\n|---|---|---|\n"
        for rule in roles.pop(key)["rules"]:
            cells = [" ".join(f"`{word}`" for word in rule[part] if word) for part in ("resources", "verbs")]
            yield f"| {rule['apiGroups'][0] or 'core'} | {' | '.join(cells)} |\n"
    if others := [name for kind, name in roles if kind in {"Role", "ClusterRole"}]:
        raise InconsistentChart(f"role {others[0]} is missing in _HOLDERS; add it")
    yield "\n"


def _settings(written: Schema) -> Schema:
    model = Settings.model_json_schema(by_alias=True)
    properties, required = {}, [name for name in model["required"] if name not in _IMAGES]
    for name, field in model["properties"].items():
        if name in _IMAGES:
            continue
        maintained = {key: written[name][key] for key in ("description", "pattern") if key in written.get(name, {})}
        if name in required and field["type"] == "string":
            maintained["minLength"] = 1
        from_model = {key: field[key] for key in (*_FROM_MODEL, *_BOUNDS) if key in field}
        described = {"description": _sentence(field["description"])} if "description" in field else {}
        properties[name] = described | maintained | from_model
    return {"required": required, "properties": properties}


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:].rstrip('.')}."


def _table(schema: Schema, values: Any) -> Iterator[str]:
    yield "| Value | Type | Default | Description |\n|---|---|---|---|\n"
    for path, field, default in _leaves(schema, values, ""):
        cells = (f"`{path}`", _type(field), _default(default), field["description"].replace("|", "\\|"))
        yield f"| {' | '.join(cells)} |\n"


def _leaves(schema: Schema, values: Any, path: str) -> Iterator[tuple[str, Schema, Any]]:
    """Yield path, schema and default of every leaf value. Raises `InconsistentChart` if the two files differ."""
    fields = schema["properties"]
    if unknown := sorted(set(values) - set(fields)):
        raise InconsistentChart(f"{path}{unknown[0]} is in values.yaml, but not in values.schema.json")
    for name, field in fields.items():
        where = f"{path}{name}"
        if not field.get("description"):
            raise InconsistentChart(f"{where} has no description in values.schema.json")
        if name == "global":
            continue
        if name not in values and "default" not in field and field["type"] != "object":
            raise InconsistentChart(f"{where} has no default in values.yaml")
        value = values.get(name, field.get("default"))
        if field.get("properties") and value not in ({}, None) and name != "resources":
            yield from _leaves(field, value, f"{where}.")
        else:
            yield where, field, value


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
    """Write the generated files, or compare them with those on disk."""
    same = True
    for path, text in generated_files():
        old = path.read_text("utf-8") if path.exists() else ""
        if words == ["--check"]:
            same = same and old == text
            name = str(path.relative_to(ROOT.parent))
            sys.stdout.writelines(difflib.unified_diff(old.splitlines(True), text.splitlines(True), name, "generated"))
        elif old != text:
            path.write_text(text, "utf-8")
    if not same:
        print("generated files are out of date; run: make charts", file=sys.stderr)
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
