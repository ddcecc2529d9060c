"""The CustomResourceDefinition of ExchangeFeed, made from its model.

Types, bounds, enums, patterns and defaults are the model's. Added here is what a model need not say and an API server
wants to know: sizes, how lists merge, descriptions, and the rules of `k2.schemas.feed.crd_rules`.
"""

from typing import Any, Final

import yaml

from k2.schemas.feed import crd_rules, crd_status
from k2.schemas.feed.model import API_VERSION, KIND, FeedSpec

GROUP, VERSION = API_VERSION.split("/")
PLURAL: Final = "exchangefeeds"
_KEPT: Final = ("type", "enum", "minimum", "maximum", "minItems", "maxItems", "pattern", "description")
_HEADER: Final = "# The ExchangeFeed's CustomResourceDefinition, made by `k2 crd`; change the model, not this file.\n"

# What the model does not say, by class and field; `[]` is a list's element.
_FIELDS: Final[dict[str, dict[str, Any]]] = {
    "FeedSpec.exchange": {
        "description": "Where the trades come from. It never changes.",
        "x-kubernetes-validations": [crd_rules.IMMUTABLE_EXCHANGE],
    },
    "FeedSpec.symbols": {
        "description": "What is collected, in the exchange's own spelling.",
        "x-kubernetes-list-type": "set",
    },
    "FeedSpec.symbols[]": {"maxLength": crd_rules.MAX_SYMBOL},
    "FeedSpec.suspend": {"description": "No ingest and no layers run; all data is kept."},
    "FeedSpec.deletionPolicy": {
        "description": "What becomes of topic, tables and checkpoints when the feed is deleted."
    },
    "Ingest.endpoints": {"x-kubernetes-list-type": "atomic"},
    "Ingest.nodeSelector": {"description": "Labels of the nodes that may run the pods.", "maxProperties": 64},
    "Ingest.nodeSelector[]": {"maxLength": 63},
    "Ingest.tolerations": {
        "description": "Taints that the pods tolerate.",
        "maxItems": 64,
        "x-kubernetes-list-type": "atomic",
    },
    "Ingest.affinity": {"description": "Where the pods would rather run, as in a pod's own affinity."},
    "Ingest.priorityClassName": {"description": "The pods' PriorityClass.", "maxLength": 253},
    "Backfill.enabled": {"description": "False: gaps are recorded and left."},
    "Kafka.retention": {"description": "How long Kafka keeps the trades."},
    "Layers.topology": {"description": "One Spark application for each layer, or one for all three."},
    "Layers.bronze": {"description": "The trades as they came from Kafka, byte for byte."},
    "Layers.silver": {"description": "The trades, typed and judged; dead letters beside them."},
    "Layers.gold": {"description": "Each trade once, of all exchanges."},
}
for _layer in ("Layer", "KeptLayer"):
    _FIELDS[f"{_layer}.trigger"] = {"description": "How often a batch is made."}
_FIELDS["KeptLayer.retention"] = {"description": "How long rows are kept; whole days are deleted."}
for _amount, _described in (("cpu", "Cores, such as 500m."), ("memory", "Bytes, such as 2Gi.")):
    _FIELDS[f"ResourceAmounts.{_amount}"] = {"description": _described}

_CLASSES: Final[dict[str, Any]] = {
    "FeedSpec": crd_rules.symbol_rules,
    "KeptLayer": lambda: [crd_rules.retention_rule()],
}
_WORDS: Final = {
    "Kafka.topic": crd_rules.topic,
    "ResourceAmounts.cpu": crd_rules.quantity,
    "ResourceAmounts.memory": crd_rules.quantity,
}


def definition() -> dict[str, Any]:
    """The whole object, as `kubectl apply` takes it."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["feed", "feeds", "xf"],
                "categories": ["k2"],
            },
            "scope": "Namespaced",
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": crd_status.columns(),
                    "schema": {"openAPIV3Schema": _root()},
                }
            ],
        },
    }


def text() -> str:
    """`definition()` as YAML."""
    return _HEADER + yaml.dump(definition(), Dumper=_Indented, sort_keys=False, width=110, allow_unicode=True)


class _Indented(yaml.SafeDumper):
    """YAML as people indent it, with nothing said by reference."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, indentless=False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _root() -> dict[str, Any]:
    return {
        "type": "object",
        "description": "One exchange, some symbols, and how they are stored.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": "The version of this schema."},
            "kind": {"type": "string", "description": KIND},
            "metadata": {"type": "object"},
            "spec": spec(),
            "status": crd_status.status(),
        },
        "x-kubernetes-validations": crd_rules.NAME_RULES,
    }


def spec() -> dict[str, Any]:
    """The structural schema of `spec`."""
    model = FeedSpec.model_json_schema()
    return _Builder(model["$defs"]).object("FeedSpec", model, {})


class _Builder:
    """Pydantic's JSON schema, made structural: nothing by reference, defaults where they belong."""

    def __init__(self, classes: dict[str, Any]) -> None:
        self._classes = classes

    def object(self, name: str, schema: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
        """A class of the model. `defaults` are those that its owner gives it, before its own."""
        properties = {
            field: self._field(f"{name}.{field}", found | ({"default": defaults[field]} if field in defaults else {}))
            for field, found in schema["properties"].items()
        }
        required = [field for field in schema.get("required", ()) if "default" not in properties[field]]
        made: dict[str, Any] = {"type": "object", "description": schema["description"], "properties": properties}
        if required:
            made["required"] = required
        if rules := _CLASSES.get(name):
            made["x-kubernetes-validations"] = rules()
        return made

    def _field(self, path: str, schema: dict[str, Any]) -> dict[str, Any]:
        more = _FIELDS.get(path, {})
        if reference := schema.get("$ref"):
            name = reference.rsplit("/", 1)[-1]
            default = schema.get("default")
            made = self.object(name, self._classes[name], default or {})
            return made | more | ({} if default is None else {"default": {}})
        return self._value(path, schema) | more

    def _value(self, path: str, schema: dict[str, Any]) -> dict[str, Any]:
        schema = _without_null(schema)
        made: dict[str, Any] = {key: schema[key] for key in _KEPT if key in schema}
        if (default := schema.get("default")) is not None:
            made["default"] = default
        if items := schema.get("items"):
            made["items"] = self._field(f"{path}[]", items)
        match schema.get("additionalProperties"):
            case True:
                made["x-kubernetes-preserve-unknown-fields"] = True
            case dict(values):
                made["additionalProperties"] = self._field(f"{path}[]", values)
        if made["type"] == "integer":
            made["format"] = "int32"
        if words := _WORDS.get(path):
            made |= words(made["pattern"])
        if bounds := schema.get("x-k2-duration"):
            made |= crd_rules.duration(*bounds)
        if schemes := schema.get("x-k2-url"):
            made |= crd_rules.url(*schemes, optional=default == "")
        return made


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A value that may be left out, as the value: the API server drops null by itself."""
    if "anyOf" not in schema:
        return schema
    (found,) = (choice for choice in schema["anyOf"] if choice.get("type") != "null")
    return {**schema, **found}
