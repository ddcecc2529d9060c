"""Audit tables: gaps, completeness per hour, and batches of every layer."""

from typing import Final

from k2.schemas.tables.spec import Column, Partition, Table

GAPS: Final = "audit_gaps"
COMPLETENESS: Final = "audit_completeness"
BATCHES: Final = "audit_batches"

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
        Column("repaired_at", "timestamp", "when the last missing trade was in Kafka"),
        Column("method", "string", "rest, snapshot, late; or why it could not be repaired"),
        Column("state", "string", "open, repaired, unrecoverable"),
    ),
    (Partition("detected_at", "day"),),
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
        Column("present", "bigint", "ids in Gold"),
        Column("missing", "array<struct<first_id:string,last_id:string>>", "ranges of ids missing in Gold"),
        Column("by_source", "map<string,bigint>", "trades by live, snapshot, backfill, replay"),
        Column("state", "string", "open, complete, incomplete, unverifiable"),
        Column("gold_snapshot_id", "bigint", "the audited Gold snapshot"),
        Column("checked_at", "timestamp", "when the audit ran"),
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
        Column(
            "offset_ranges",
            "array<struct<topic:string,partition:int,first:bigint,last:bigint>>",
            "Kafka offsets of the input, both ends inclusive",
        ),
        Column("rows_in", "bigint", "input rows"),
        Column("rows_out", "bigint", "rows that the commit added"),
        Column("dead_letters", "bigint", "invalid rows"),
        Column("duplicates_dropped", "bigint", "rows that the layer already contained"),
        Column("snapshot_id", "bigint", "the commit"),
        Column("started_at", "timestamp", "when the batch began"),
        Column("committed_at", "timestamp", "when the commit was made"),
    ),
    (Partition("committed_at", "day"),),
)
