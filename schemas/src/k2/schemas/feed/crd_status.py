"""The CRD's schema of an ExchangeFeed's status, and the columns that `kubectl get` prints."""

from typing import Any, Final

import msgspec

from k2.schemas.channels import CHANNELS
from k2.schemas.feed.phases import PHASES
from k2.schemas.states import RebuildState, SymbolState
from k2.schemas.status import AuditResult, LayerStatus, ShardStatus

CONDITIONS: Final = ("Ready", "TopicReady", "IngestReady", "BronzeReady", "SilverReady", "GoldReady")


def _text(description: str, limit: int = 63, **more: Any) -> dict[str, Any]:
    return {"type": "string", "description": description, "maxLength": limit, **more}


def _count(description: str) -> dict[str, Any]:
    return {"type": "integer", "format": "int64", "minimum": 0, "description": description}


def _time(description: str) -> dict[str, Any]:
    return {"type": "string", "format": "date-time", "description": description}


def _object(description: str, **properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "description": description, "properties": properties}


def _copied(document: type[msgspec.Struct], **descriptions: str) -> dict[str, dict[str, Any]]:
    """Return the schemas of fields that have the same name and meaning in a process's `/status` document."""
    types = {field.encode_name: field.type for field in msgspec.structs.fields(document)}
    return {
        name: _count(description) if types[name] in {int, float} else _time(description)
        for name, description in descriptions.items()
    }


def _condition() -> dict[str, Any]:
    """Return the schema of a metav1.Condition, with Kubernetes' own limits."""
    word = r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"
    return {
        **_object(
            "One aspect of the feed.",
            type=_text(
                f"{', '.join(CONDITIONS)}.",
                316,
                pattern=r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?"
                r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$",
            ),
            status={"type": "string", "enum": ["True", "False", "Unknown"], "description": "Whether it holds."},
            observedGeneration=_count("The generation of the object that this condition describes."),
            lastTransitionTime=_time("When the status last changed."),
            reason=_text("Machine-readable reason, in one word.", 1024, minLength=1, pattern=word),
            message=_text("Human-readable explanation.", 32768),
        ),
        "required": ["type", "status", "lastTransitionTime", "reason", "message"],
    }


def _layer(name: str) -> dict[str, Any]:
    return _object(
        f"The {name} layer.",
        application=_text("The SparkApplication that runs it.", 253),
        state=_text("The application's state as reported by the Spark operator."),
        **_copied(LayerStatus, lastCommitTime="When it last committed to its table."),
        freshness=_text("The age of the newest row, such as 9s."),
        **_copied(LayerStatus, rows="Rows written."),
    )


def _connections() -> dict[str, Any]:
    return {
        "connected": _count("Connections that are up."),
        "desired": _count("Connections that should be up."),
        **_copied(
            ShardStatus,
            messagesPerSecond="Records received per second.",
            lastMessageTime="When the last record arrived.",
            reconnects="Reconnections to the exchange.",
        ),
        "openGaps": _count("Gaps not yet repaired."),
        "repairedGaps": _count("Gaps repaired."),
    }


def status() -> dict[str, Any]:
    """Return the schema of `status`."""
    return _object(
        "The state observed by the operator.",
        observedGeneration=_count("The generation of the object that this status describes."),
        phase={"type": "string", "enum": list(PHASES), "description": "Summary of the conditions in one word."},
        message=_text("What is wrong or pending, in a sentence.", 32768),
        symbols=_count("Number of symbols."),
        conditions={
            "type": "array",
            "description": "Conditions of the feed, one per type.",
            "maxItems": 32,
            "items": _condition(),
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
        },
        rebuild=_object(
            "The rebuild that spec.rebuildNonce asks for.",
            nonce={
                **_count("The number that was carried out last, or that the feed began with."),
                "maximum": 2**31 - 1,
            },
            state={
                "type": "string",
                "enum": [state.value for state in RebuildState],
                "description": "How far the newest rebuild is, or how it ended.",
            },
            message=_text("The same in a sentence.", 32768),
        ),
        ingest=_object(
            "Connections to the exchange.",
            **_connections(),
            shards=_count("Number of shards."),
            recommendedShards=_count("Of shards: auto, the number that the load needs."),
        ),
        channels=_object(
            "The connections of each channel, and its symbols by state.",
            **{
                channel.name: _object(
                    f"The channel {channel.name}.",
                    **_connections(),
                    symbols=_object(
                        "Number of symbols by state.",
                        **{state.value: _count(f"Symbols that are {state.value}.") for state in SymbolState},
                    ),
                )
                for channel in CHANNELS
            },
        ),
        layers=_object(
            "The tables' writers.",
            bronze=_layer("Bronze"),
            silver=_layer("Silver"),
            gold=_layer("Gold"),
            deadLetters=_count("Invalid records, stored with the reason."),
            audit=_object(
                "Result of the newest audit.",
                **_copied(
                    AuditResult,
                    incompleteHours="Hours of the last 7 days with missing trades.",
                    checkedAt="When the audit ran.",
                ),
            ),
        ),
    )


def _column(name: str, path: str, kind: str = "string", *, wide: bool = False) -> dict[str, Any]:
    return {"name": name, "type": kind, "jsonPath": path, **({"priority": 1} if wide else {})}


def columns() -> list[dict[str, Any]]:
    """Return the printer columns: EXCHANGE SYMBOLS PHASE RATE FRESHNESS GAPS AGE; `-o wide` adds TOPOLOGY and more."""
    return [
        _column("Exchange", ".spec.exchange"),
        _column("Symbols", ".status.symbols", "integer"),
        _column("Phase", ".status.phase"),
        _column("Rate", ".status.ingest.messagesPerSecond", "integer"),
        _column("Freshness", ".status.layers.gold.freshness"),
        _column("Gaps", ".status.ingest.openGaps", "integer"),
        _column("Age", ".metadata.creationTimestamp", "date"),
        _column("Topology", ".spec.layers.topology", wide=True),
        _column("Dead Letters", ".status.layers.deadLetters", "integer", wide=True),
        _column("Message", ".status.message", wide=True),
    ]
