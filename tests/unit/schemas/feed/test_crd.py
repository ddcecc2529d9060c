"""The CRD agrees with the model. `tests.crd_cases` checks what needs an API server."""

import re
import sys
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from k2.common.validation_errors import InvalidSpec
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.exchanges.spec import UnknownPair
from k2.schemas.feed import crd
from k2.schemas.feed.model import ExchangeFeed, FeedSpec
from k2.schemas.feed.phases import PHASES
from tests.crd_cases import CASES, UPDATES, feed

MANIFESTS = Path(__file__).parents[4] / "manifests"
VERSION = crd.definition()["spec"]["versions"][0]
ROOT = VERSION["schema"]["openAPIV3Schema"]
SPEC = ROOT["properties"]["spec"]
STATUS = ROOT["properties"]["status"]
STRUCTURAL = set(
    "type description default enum format pattern minimum maximum minLength maxLength minItems maxItems maxProperties "
    "items properties additionalProperties required x-kubernetes-validations x-kubernetes-list-type "
    "x-kubernetes-list-map-keys x-kubernetes-preserve-unknown-fields x-kubernetes-int-or-string".split()
)
WORDS = st.text(st.characters(categories=("Lu", "Ll", "Lo", "Nd")), max_size=17)
TYPES = {"string": str, "integer": int, "boolean": bool, "array": list, "object": dict}


def nodes(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from nodes(inner, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from nodes(schema[key], f"{path}[]")


def whole(pattern: str, text: str) -> bool:
    """As RE2 has it: `$` is the end of the text, not of its last line."""
    assert (pattern[0], pattern[-1]) == ("^", "$")
    translated = re.sub(r"\\p\{(\w+)\}", lambda match: category(match[1]), pattern[1:-1])
    return re.search(rf"\A(?:{translated})\Z", text) is not None


@cache
def category(name: str) -> str:
    """Return the ranges of a Unicode category, which Python's expressions cannot name."""
    letters = [code for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)) == name]
    starts = [code for code, before in zip(letters, [-1, *letters], strict=False) if code != before + 1]
    ends = [code for code, after in zip(letters, [*letters[1:], -1], strict=True) if after != code + 1]
    return "".join(rf"\U{start:08x}-\U{end:08x}" for start, end in zip(starts, ends, strict=True))


def stored(schema: dict[str, Any], value: Any) -> Any:
    """What the API server keeps: defaults filled in from the outside in."""
    if isinstance(value, dict) and "properties" in schema:
        given = {name: inner["default"] for name, inner in schema["properties"].items() if "default" in inner} | value
        return {name: stored(schema["properties"].get(name, {}), inner) for name, inner in given.items()}
    return value


def wrong(schema: dict[str, Any], value: Any, path: str = "") -> Iterator[str]:
    """Where the schema, without its rules, does not let a value pass."""
    if "x-kubernetes-int-or-string" in schema:
        schema = schema | {"type": "string" if isinstance(value, str) else "integer"}
    if type(value) is not TYPES[schema["type"]]:
        yield path
        return
    size = len(value) if isinstance(value, str | list | dict) else 0
    low = {"string": "minLength", "array": "minItems"}.get(schema["type"], "minimum")
    high = {"string": "maxLength", "array": "maxItems", "object": "maxProperties"}.get(schema["type"], "maximum")
    measure = value if isinstance(value, int) else size
    if not schema.get(low, measure) <= measure <= schema.get(high, measure):
        yield path
    if value not in schema.get("enum", [value]) or ("pattern" in schema and not whole(schema["pattern"], value)):
        yield path
    if isinstance(value, list):
        if schema.get("x-kubernetes-list-type") == "set" and len(set(value)) < len(value):
            yield path
        for item in value:
            yield from wrong(schema["items"], item, f"{path}[]")
    if isinstance(value, dict) and "x-kubernetes-preserve-unknown-fields" not in schema:
        yield from (f"{path}.{name}" for name in schema.get("required", ()) if name not in value)
        for name, inner in value.items():
            property_schema = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
            yield from wrong(property_schema, inner, f"{path}.{name}") if property_schema else [f"{path}.{name}"]


def rules() -> Iterator[dict[str, str]]:
    for _, node in nodes(ROOT, ""):
        yield from node.get("x-kubernetes-validations", ())


def accepted(body: dict[str, Any]) -> bool:
    try:
        ExchangeFeed.from_body(body)
    except InvalidSpec:
        return False
    return True


def model_fields(model: type[BaseModel], path: str = "spec") -> Iterator[str]:
    for name, field in model.model_fields.items():
        here = f"{path}.{field.alias or name}"
        yield here
        for part in get_args(field.annotation) or (field.annotation,):  # of an optional part: itself, and None
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from model_fields(part, here)


def test_the_committed_file_is_what_the_generator_makes():
    assert (MANIFESTS / "crds" / "exchangefeeds.yaml").read_text("utf-8") == crd.text()
    assert yaml.safe_load(crd.text()) == crd.definition()


def test_names_are_those_that_kubectl_is_used_with():
    definition = crd.definition()
    assert definition["metadata"]["name"] == "exchangefeeds.k2.marketdata.io"
    assert (definition["spec"]["group"], definition["spec"]["scope"]) == ("k2.marketdata.io", "Namespaced")
    names = definition["spec"]["names"]
    assert (names["plural"], names["singular"], names["kind"]) == ("exchangefeeds", "exchangefeed", "ExchangeFeed")
    assert {"feed", "xf"} <= set(names["shortNames"])
    assert names["categories"] == ["k2"]
    assert (VERSION["name"], VERSION["served"], VERSION["storage"]) == ("v1alpha1", True, True)
    assert VERSION["subresources"] == {"status": {}}


def test_the_api_server_adds_no_field_that_an_earlier_operator_refuses():
    assert not {"rebuildNonce", "ingest.autoscale", "channels", "book"} & set(defaults(SPEC))


def defaults(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    for name, inner in schema.get("properties", {}).items():
        if "default" in inner:
            yield f"{path}{name}"
        yield from defaults(inner, f"{path}{name}.")


def test_the_schema_is_structural():
    for path, node in nodes(ROOT, ""):
        assert set(node) <= STRUCTURAL, path
        assert "x-kubernetes-int-or-string" in node or node["type"] in TYPES, path
        assert not {"properties", "additionalProperties"} <= set(node), path


def test_everything_is_described_and_bounded():
    for path, node in [*nodes(SPEC, "spec"), *nodes(STATUS, "status")]:
        if not path.endswith("[]"):
            assert node.get("description"), path
        match node.get("type", "integer or string"):
            case "string":
                assert {"enum", "maxLength"} & set(node) or node.get("format") == "date-time", path
            case "array":
                assert {"maxItems", "x-kubernetes-list-type"} <= set(node), path
            case "object" if "additionalProperties" in node:
                assert "maxProperties" in node, path


def test_only_fields_that_kubernetes_defines_preserve_unknown_fields():
    unseen = {path for path, node in nodes(ROOT, "") if "x-kubernetes-preserve-unknown-fields" in node}
    assert unseen == {
        ".spec.placement.affinity",
        ".spec.placement.tolerations[]",
        ".spec.placement.topologySpreadConstraints[]",
    }


def test_every_field_of_the_model_is_in_the_schema_and_no_other():
    assert {path for path, _ in nodes(SPEC, "spec") if "[]" not in path} - {"spec"} == set(model_fields(FeedSpec))


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"ingest": {}, "kafka": {}, "layers": {"bronze": {}, "silver": {}, "gold": {}}},
        {"layers": {"bronze": {"executors": 0}, "silver": {"trigger": "1m"}}, "ingest": {"backfill": {}}},
        {"layers": {"gold": {"resources": {"limits": {"cpu": "1"}}}}},
        {"symbols": None, "symbolSelector": {"quotes": ["USDT"]}},
    ],
)
def test_a_stored_object_has_the_models_defaults(spec):
    body = feed(**spec)
    model = ExchangeFeed.from_body(body).spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    assert stored(SPEC, body["spec"]) == model
    assert list(wrong(SPEC, stored(SPEC, body["spec"]))) == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_model_and_the_table_agree(case):
    if case.by_model:
        assert accepted(case.object) == (case.refused is None)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_schema_or_a_rules_sentence_refuses_what_the_table_refuses(case):
    violations = list(wrong(SPEC, stored(SPEC, case.object["spec"])))
    if case.refused is None:
        assert violations == []
    elif not violations:
        sentence = re.sub(r"^correct .+", "; correct ' + self.symbols", case.refused)
        assert any(sentence in rule["message"] or sentence in rule.get("messageExpression", "") for rule in rules())


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if (case.refused or "").startswith(("write a whole", "must be a ", "must be letters"))],
    ids=lambda case: case.name,
)
def test_what_is_misspelt_is_rejected_by_a_pattern_alone(case):
    """So that tools without CEL reject it too."""
    assert list(wrong(SPEC, stored(SPEC, case.object["spec"]))) != []


def test_case_names_are_unique():
    for table in (CASES, UPDATES):
        assert len({case.name for case in table}) == len(table)


def test_a_pattern_and_its_rule_are_one():
    patterned = [node for _, node in nodes(SPEC, "spec") if {"pattern", "x-kubernetes-validations"} <= set(node)]
    assert len(patterned) > 10
    for node in patterned:
        assert f"self.matches(r'{node['pattern']}')" in node["x-kubernetes-validations"][0]["rule"]


def test_every_rule_has_a_message_of_one_line():
    all_rules = list(rules())
    assert len(all_rules) > 20
    for rule in all_rules:
        assert rule["message"][0].islower() or rule["message"].startswith("Kafka")
        assert "\n" not in rule["message"]
        assert len(rule["message"]) < 400


@pytest.mark.parametrize("exchange", EXCHANGES)
@given(data=st.data())
def test_an_exchanges_rules_accept_the_symbols_that_the_model_accepts(exchange, data):
    """The rules' patterns, run here; that CEL runs them so is for an API server to tell."""
    exchange_spec = EXCHANGES[exchange]
    ours = [rule["rule"] for rule in SPEC["x-kubernetes-validations"] if f"'{exchange}' ||" in rule["rule"]]
    patterns = {pattern for rule in ours for pattern in re.findall(r"matches\(r'(.*?)'\)", rule)}
    assert patterns
    symbol = data.draw(
        st.lists(WORDS, min_size=1, max_size=2).map(exchange_spec.separator.join)
        | st.from_regex(r"\A[A-Z0-9]{0,16}[/-]?(USDT?|FDUSD|BTC|eth)\n?\Z")
        | st.text(max_size=40)
    )
    try:
        valid = bool(exchange_spec.symbol(symbol))
    except UnknownPair:
        valid = False
    assert all(whole(pattern, symbol) for pattern in patterns) == valid


def test_the_exchange_never_changes():
    (rule,) = SPEC["properties"]["exchange"]["x-kubernetes-validations"]
    assert (rule["rule"], rule["message"]) == (
        "self == oldSelf",
        "exchange is immutable; create another ExchangeFeed",
    )


def test_a_name_leaves_room_for_the_names_of_pods():
    assert "self.metadata.name.size() <= 40" in [rule["rule"] for rule in ROOT["x-kubernetes-validations"]]


def test_columns_are_those_of_k2_status():
    columns = VERSION["additionalPrinterColumns"]
    usual = [column["name"].upper() for column in columns if not column.get("priority")]
    wide = [column["name"].upper() for column in columns if column.get("priority") == 1]
    assert usual == ["EXCHANGE", "SYMBOLS", "PHASE", "RATE", "FRESHNESS", "GAPS", "AGE"]
    assert wide == ["TOPOLOGY", "DEAD LETTERS", "MESSAGE"]


def test_each_column_shows_a_field_of_its_type():
    fields = dict(nodes(ROOT, ""))
    for column in VERSION["additionalPrinterColumns"]:
        if column["jsonPath"] == ".metadata.creationTimestamp":
            assert column["type"] == "date"
        else:
            assert fields[column["jsonPath"]]["type"] == column["type"]


def test_the_status_schema_covers_all_that_the_operator_writes():
    layer = {
        "application": "binance-bronze",
        "state": "RUNNING",
        "lastCommitTime": "2026-11-21T00:00:00Z",
        "freshness": "9s",
        "rows": 123,
    }
    condition = {
        "type": "Ready",
        "status": "True",
        "reason": "Running",
        "message": "",
        "lastTransitionTime": "2026-11-21T00:00:00Z",
        "observedGeneration": 3,
    }
    ingest = {
        "connected": 2,
        "desired": 2,
        "messagesPerSecond": 812,
        "lastMessageTime": "2026-11-21T00:00:00Z",
        "reconnects": 1,
        "openGaps": 0,
        "repairedGaps": 4,
    }
    status = {
        "observedGeneration": 3,
        "message": "",
        "symbols": 2,
        "conditions": [condition],
        "ingest": ingest,
        "layers": {"bronze": layer, "silver": layer, "gold": layer, "deadLetters": 0},
    }
    for phase in "Pending Progressing Running Degraded Suspended Failed Deleting".split():
        assert list(wrong(STATUS, status | {"phase": phase})) == []
    assert STATUS["properties"]["phase"]["enum"] == list(PHASES)
    assert list(wrong(STATUS, status | {"phase": "Ready"})) == [".phase"]


def test_conditions_are_a_map_by_type():
    conditions = STATUS["properties"]["conditions"]
    assert conditions["x-kubernetes-list-type"] == "map"
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]
    assert set(conditions["items"]["required"]) == {"type", "status", "reason", "message", "lastTransitionTime"}


@pytest.mark.parametrize("sample", sorted((MANIFESTS / "samples").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_samples_fit_the_schema(sample):
    spec = yaml.safe_load(sample.read_text("utf-8"))["spec"]
    assert list(wrong(SPEC, stored(SPEC, spec))) == []
