"""The reference page of all fields agrees with the CRD."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from k2.schemas.feed import crd

DOCS = Path(__file__).parents[4] / "docs/reference"
TABLES, _, RULES = (DOCS / "exchangefeed-fields.md").read_text("utf-8").partition("\n## Rules\n")
ROOT = crd.definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def fields(path: str, schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, field in schema.get("properties", {}).items():
        yield f"{path}{name}", field
        yield from fields(f"{path}{name}.", field)
        yield from fields(f"{path}{name}[].", field.get("items", {}))


def rules(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        yield from (rule["message"] for rule in schema.get("x-kubernetes-validations", ()))
        for inner in schema.values():
            yield from rules(inner)


FIELDS = dict(fields("", {"properties": {part: ROOT["properties"][part] for part in ("spec", "status")}}))
ROWS = {row.split("`")[1]: row for row in TABLES.splitlines() if row.startswith(("| `spec.", "| `status."))}


def test_every_field_has_its_row_with_type_default_and_description():
    for path in FIELDS.keys() - {"spec", "status"}:
        assert TABLES.count(f"\n| `{path}` |") == 1, path
        assert ROWS[path].endswith(f"| {FIELDS[path]['description'].replace('<', '&lt;')} |"), path
    assert "| `spec.layers.silver.trigger` | string | `30s` |" in TABLES
    assert "| `spec.symbols` | list of strings |  | 1 to 1000 entries" in TABLES


def test_every_validation_message_is_listed_once():
    sentences = set(rules(ROOT))
    assert len(sentences) > 10
    for sentence in sentences:
        assert RULES.count(f"| {sentence}") == 1, sentence


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("spec.ingest.shards", "1 to 64"),
        (
            "spec.ingest.endpoints",
            "at most 8 entries; each entry: at most 2048 characters; a URL that begins with ws://",
        ),
        ("spec.kafka.retention", "between 1m and 3650d"),
        ("spec.deletionPolicy", "`Retain` or `Delete`"),
        ("status.conditions", "at most 32 entries; unique by `type`"),
    ],
)
def test_a_field_says_what_it_takes(path, words):
    assert words in ROWS[path]
