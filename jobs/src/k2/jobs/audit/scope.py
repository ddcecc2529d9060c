"""What the checks of one channel of an exchange share: its rows at the pinned snapshots, its report and findings."""

from datetime import datetime, timedelta
from functools import cached_property
from typing import Final

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.jobs.audit.pinned_snapshots import Frontier, PinnedSnapshots
from k2.jobs.audit.report import ChannelReport, Finding
from k2.jobs.audit.verdicts.verdict import BRONZE, GOLD, SILVER
from k2.jobs.layers import gold
from k2.schemas import tables
from k2.schemas.channels import Channel
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.tables import Table
from k2.schemas.values import from_micros

DEAD_LETTERS: Final = "dead_letters"
VERDICTS: Final = "verdicts"
LEDGER: Final = "ledger"
GAPS: Final = "gaps"

_CLOCK_SKEW: Final = timedelta(hours=1)
_HOUR_MICROS: Final = 3_600_000_000


class Scope:
    """One channel of an exchange at pinned snapshots. Rows before `since` are left out.

    If the audit is `incremental`, they are left out because an audit without findings has judged them. `pending_since`
    is the time (UTC microseconds) of the first row that a layer has not processed, as far as known.
    """

    def __init__(
        self,
        spark: SparkSession,
        pinned: PinnedSnapshots,
        exchange: str,
        channel: Channel,
        now: datetime,
        since: datetime | None,
        *,
        incremental: bool = False,
    ) -> None:
        self.spark = spark
        self.pinned = pinned
        self.exchange = exchange
        self.channel = channel
        self.label = EXCHANGES[exchange].label
        self.now = now
        self.since = since
        self.incremental = incremental
        self.pending_since: int | None = None
        self.time = gold.record_time(channel)
        self.bronze_table, self.silver_table = channel.bronze(exchange), channel.silver(exchange)
        own = F.col("exchange") == self.label
        dead_letters = pinned.rows(tables.DEAD_LETTERS_TABLE).where(own & (F.col("channel") == channel.name))
        self.bronze = self.recent(pinned.rows(self.bronze_table), F.col("kafka_timestamp"), _CLOCK_SKEW)
        self.silver = pinned.rows(self.silver_table)
        self.recent_silver = self.recent(self.silver, F.col("bronze_timestamp"), _CLOCK_SKEW)
        self.dead_letters = self.recent(dead_letters, F.col("dead_lettered_at"), _CLOCK_SKEW)
        self.gold = pinned.rows(channel.gold).where(own)
        self.findings: list[Finding] = []
        self.judged_rebuilds: dict[str, int] = {}  # what the audit records as judged, by property
        self.report = ChannelReport(
            snapshots={layer: pinned.snapshot_id(self._table(layer)) for layer in (BRONZE, SILVER, DEAD_LETTERS, GOLD)}
        )

    @cached_property
    def gold_frontier(self) -> Frontier:
        """Up to which offsets Silver rows must be in Gold."""
        return self.pinned.gold_frontier(self.exchange, self.channel)

    @property
    def start(self) -> datetime | None:
        """The start of the first hour to judge; None for all."""
        return self.since.replace(minute=0, second=0, microsecond=0) if self.since else None

    def recent(self, rows: DataFrame, time: Column, margin: timedelta) -> DataFrame:
        """Return the rows since `since`, and those of a margin before it."""
        return rows if self.since is None else rows.where(time >= F.lit(self.since - margin))

    def note_pending(self, rows: DataFrame, time: Column) -> None:
        """Note the first time of rows that a layer has not processed yet."""
        (row,) = rows.agg(F.min(F.unix_micros(time)).alias("first")).collect()
        times = [time for time in (self.pending_since, row["first"]) if time is not None]
        self.pending_since = min(times, default=None)

    def retained_from(self, table: Table) -> int:
        """Return the time (UTC microseconds) from which on retention has deleted no row of a table."""
        return self.pinned.pruned_micros(table)

    def add_at(self, check: str, layer: str, symbol: str, hour: int, text: str) -> None:
        """Add a finding whose text begins with the table, the symbol and the hour (UTC microseconds)."""
        place = f"{self._table(layer).name}: {self.label} {symbol} {hour_text(hour)}"
        self.add(check, f"{place}: {text}", layer, symbol, hour)

    def add(self, check: str, text: str, layer: str = "", symbol: str = "", at: int | None = None) -> None:
        """Add a finding; `at` is a time of its hour in UTC microseconds."""
        table, hour = self._table(layer).name if layer else "", "" if at is None else hour_text(at)
        self.findings.append(Finding(self.label, self.channel.name, check, text, table, symbol, hour))

    def _table(self, layer: str) -> Table:
        return {
            BRONZE: self.bronze_table, SILVER: self.silver_table, GOLD: self.channel.gold,
            DEAD_LETTERS: tables.DEAD_LETTERS_TABLE, VERDICTS: tables.COMPLETENESS_TABLE,
            LEDGER: tables.BATCHES_TABLE, GAPS: tables.GAPS_TABLE,
        }[layer]  # fmt: skip


def hour_of(at: int) -> int:
    """Return the start of the hour of a time, both in UTC microseconds."""
    return at - at % _HOUR_MICROS


def hour_text(at: int) -> str:
    """Return the hour of a time in UTC microseconds as findings name it."""
    return f"{from_micros(at):%Y-%m-%dT%H:00Z}"
