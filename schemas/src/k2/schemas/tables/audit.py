"""Audit tables: gaps, completeness per hour, and batches of every layer."""

from typing import Final

from k2.schemas.tables.spec import Column, Partition, Table

GAPS: Final = "audit_gaps"
COMPLETENESS: Final = "audit_completeness"
BATCHES: Final = "audit_batches"

GAPS_TABLE: Final = Table(
    GAPS,
    (
        Column("gap_id", "string", "the same for the same missing ids of the same symbol"),
        Column("exchange", "string", "BINANCE, KRAKEN, ..."),
        Column("feed", "string", "the ExchangeFeed that noticed"),
        Column("symbol", "string", "normalised: BTCUSDT"),
        Column("first_id", "string", "first missing trade id"),
        Column("last_id", "string", "last missing trade id"),
        Column("detected_at", "timestamp", "when the ingest noticed"),
        Column("repaired_at", "timestamp", "when the last missing trade was in Kafka"),
        Column("method", "string", "rest, snapshot, late; or why it could not be repaired"),
        Column("state", "string", "open, repaired, unrecoverable"),
    ),
    (Partition("detected_at", "day"),),
)

COMPLETENESS_TABLE: Final = Table(
    COMPLETENESS,
    (
        Column("exchange", "string", "BINANCE, KRAKEN, ..."),
        Column("symbol", "string", "normalised: BTCUSDT"),
        Column("hour", "timestamp", "UTC hour"),
        Column("first_id", "string", "first trade id of the hour"),
        Column("last_id", "string", "last trade id of the hour"),
        Column("expected", "bigint", "ids that the hour should hold; null where ids prove nothing"),
        Column("present", "bigint", "ids that Gold holds"),
        Column("missing", "array<struct<first_id:string,last_id:string>>", "ranges of ids that Gold lacks"),
        Column("by_source", "map<string,bigint>", "trades by live, snapshot, backfill, replay"),
        Column("state", "string", "open, complete, incomplete, unverifiable"),
        Column("gold_snapshot_id", "bigint", "the Gold snapshot that was judged"),
        Column("checked_at", "timestamp", "when"),
    ),
    (Partition("hour", "month"),),
)

BATCHES_TABLE: Final = Table(
    BATCHES,
    (
        Column("layer", "string", "bronze, silver, gold"),
        Column("exchange", "string", "BINANCE, KRAKEN, ..."),
        Column("query_id", "string", "the streaming query; it lives as long as its checkpoint"),
        Column("epoch", "bigint", "the micro-batch"),
        Column(
            "offset_ranges",
            "array<struct<topic:string,partition:int,first:bigint,last:bigint>>",
            "Kafka offsets that went in, both ends included",
        ),
        Column("rows_in", "bigint", "rows that went in"),
        Column("rows_out", "bigint", "rows that the commit added"),
        Column("dead_letters", "bigint", "rows judged invalid"),
        Column("duplicates_dropped", "bigint", "rows that the layer held already"),
        Column("snapshot_id", "bigint", "the commit"),
        Column("started_at", "timestamp", "when the batch began"),
        Column("committed_at", "timestamp", "when the commit was made"),
    ),
    (Partition("committed_at", "day"),),
)
