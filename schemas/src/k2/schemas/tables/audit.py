"""Audit tables: gaps and the evidence of verdicts on them, completeness per hour, and batches of every layer."""

from typing import Final

from k2.schemas.tables.spec import Column, Partition, Table

GAPS: Final = "audit_gaps"
EVIDENCE: Final = "audit_evidence"
COMPLETENESS: Final = "audit_completeness"
BATCHES: Final = "audit_batches"

_ID_RANGES: Final = "array<struct<first_id:string,last_id:string>>"
_OFFSET_RANGES: Final = "array<struct<topic:string,partition:int,first:bigint,last:bigint>>"

GAPS_TABLE: Final = Table(
    GAPS,
    (
        Column("gap_id", "string", "derived from symbol and missing ids: equal for equal gaps"),
        Column("exchange", "string", "Name of the exchange in capitals"),
        Column("channel", "string", "trades"),
        Column("feed", "string", "the ExchangeFeed that detected it"),
        Column("symbol", "string", "normalised: BTCUSDT"),
        Column("first_id", "string", "first missing trade id"),
        Column("last_id", "string", "last missing trade id"),
        Column("detected_at", "timestamp", "when the ingest detected it"),
        Column("resolved_at", "timestamp", "when it was repaired or given up; null while it is open"),
        Column("resolution", "string", "rest, snapshot, late; or why it could not be repaired"),
        Column("state", "string", "open, repaired, never_issued, unrecoverable"),
        Column("missing", _ID_RANGES, "ids that never arrived, once it is closed"),
        Column("evidence", "string", "evidence_id of the answers that the state rests on, separated by commas"),
    ),
    (Partition("detected_at", "day"),),
)

EVIDENCE_TABLE: Final = Table(
    EVIDENCE,
    (
        Column("evidence_id", "string", "SHA-256 of the body, in hexadecimal digits"),
        Column("exchange", "string", "Name of the exchange in capitals"),
        Column("request", "string", "what was requested: GET /api/v3/historicalTrades?..."),
        Column("status", "int", "HTTP status of the answer"),
        Column("received_at", "timestamp", "when the answer came; equal answers are a row each"),
        Column("body", "string", "the body as received"),
    ),
    (Partition("received_at", "month"),),
)

COMPLETENESS_TABLE: Final = Table(
    COMPLETENESS,
    (
        Column("exchange", "string", "Name of the exchange in capitals"),
        Column("symbol", "string", "normalised: BTCUSDT"),
        Column("channel", "string", "trades"),
        Column("hour", "timestamp", "UTC hour"),
        Column("first_id", "string", "first trade id of the hour"),
        Column("last_id", "string", "last trade id of the hour"),
        Column("expected", "bigint", "ids that the hour should contain; null if ids are not consecutive"),
        Column("actual", "bigint", "ids in Gold"),
        Column("missing", _ID_RANGES, "ranges of ids missing in Gold"),
        Column("never_issued", _ID_RANGES, "ranges of ids that the exchange never issued; they are not expected"),
        Column("by_source", "map<string,bigint>", "trades by live, snapshot, backfill, replay"),
        Column("state", "string", "open, complete, incomplete, unverifiable"),
        Column("gold_snapshot_id", "bigint", "the audited Gold snapshot"),
        Column("checked_at", "timestamp", "when the audit ran"),
        Column("revision", "int", "1, 2, ... of the hour; the highest is in force", nullable=True),
        Column(
            "cause",
            "string",
            "first, open, closed, late, repaired, redriven, never_issued, revoked, rebuilt, rejudged",
            nullable=True,
        ),
        Column("offsets", _OFFSET_RANGES, "Kafka offsets of the hour's rows, both ends inclusive", nullable=True),
        Column("digest_bronze", "string", "rows:sum of the hour's rows in Bronze, by their Kafka time", nullable=True),
        Column("digest_silver", "string", "rows:sum of the hour's rows in Silver", nullable=True),
        Column("digest_gold", "string", "rows:sum of the hour's rows in Gold", nullable=True),
        Column("digest_leaves", "string", "rows:sum of the canonical leaves of Gold's rows", nullable=True),
        Column("previous_digest", "string", "hash of the symbol's verdict before; null in its first", nullable=True),
        Column(
            "seconds",
            "map<string,bigint>",
            "of quotes and books: seconds that are verified, unverifiable, suspect, missing; silence: the longest one",
            nullable=True,
        ),
    ),
    (Partition("hour", "month"),),
)

BATCHES_TABLE: Final = Table(
    BATCHES,
    (
        Column("layer", "string", "bronze, silver, gold"),
        Column("exchange", "string", "Name of the exchange in capitals"),
        Column("channel", "string", "trades"),
        Column("query_id", "string", "the streaming query, as named in its checkpoint"),
        Column("epoch", "bigint", "the micro-batch"),
        Column("offset_ranges", _OFFSET_RANGES, "Kafka offsets of the input, both ends inclusive"),
        Column("rows_in", "bigint", "input rows"),
        Column("rows_out", "bigint", "rows that the commit added"),
        Column("dead_letters", "bigint", "invalid rows"),
        Column("duplicates_dropped", "bigint", "rows that the layer already contained"),
        Column("snapshot_id", "bigint", "the commit"),
        Column("started_at", "timestamp", "when the batch began"),
        Column("committed_at", "timestamp", "when the commit was made"),
        Column("topic_id", "string", "the id that Kafka gave the topic when it was created", nullable=True),
    ),
    (Partition("committed_at", "day"),),
)
