"""Keys that K2 writes into Iceberg snapshot summaries and table properties.

`k2.jobs` writes them; maintenance, audit and queries read them. Stored tables rely on the strings.
"""

from typing import Final

# Snapshot summary of every layer's commit.
QUERY: Final = "k2.query-id"  # the streaming query, as named in its checkpoint
EPOCH: Final = "k2.epoch"  # its micro-batch
OFFSETS: Final = "k2.offsets"  # JSON: topic, partition, first and last offset, both inclusive
TOPIC_IDS: Final = "k2.topic-ids"  # JSON: topic, the id that Kafka gave it when it was created
EXCHANGE: Final = "k2.exchange"  # the label of the records' exchange
STARTED: Final = "k2.started-at"  # start of the batch in UTC microseconds
ROWS_IN: Final = "k2.rows-in"  # input rows of the batch
SCHEMAS: Final = "k2.schemas"  # JSON: ids of the writer schemas by which Silver decoded the batch
# JSON: topic, rows; of a commit of Silver whose rows were dead letters, and of Gold's commit that has read them. They
# lie between offsets that were read before, so they are counted here and are no part of the ranges of Gold's batch.
REDRIVEN: Final = "k2.redriven"
REDRIVE_QUERY: Final = "redrive-"  # + feed, time: the id of the query of which such a commit of Silver is all

# Snapshot summary of Gold's commits.
ROWS_BEFORE: Final = "k2.rows-before"  # rows that the query had added before this commit
FRONTIER: Final = "k2.frontier"  # JSON: topic, partition, the first offset that is not in Gold
HOURS: Final = "k2.hours"  # JSON ranges of the hours since 1970 of its records, both ends inclusive

# Snapshot summary of a rebuild's commit: the tag of the snapshot before it. As a table property + .exchange.channel,
# JSON: `at` and the `first` day (UTC microseconds), `rows`, `stayed`, and the `tag`.
REBUILT: Final = "k2.rebuilt"

# Snapshot summary of the bars' commits.
GOLD_SNAPSHOT: Final = "k2.gold-snapshot-id"  # the Gold snapshot that the bars equal

# Snapshot summary of audit_completeness.
CHECKED: Final = "k2.checked-at"  # when the audit ran, in UTC microseconds; it may have had nothing to add

# Table properties.
DELETED: Final = "k2.deleted-of."  # + snapshot id, of Gold: the exchange whose rows that snapshot deleted
JUDGED_REBUILD: Final = "k2.judged-rebuild-of."  # + table.exchange.channel, of audit_completeness: the rebuild's `at`
JUDGED: Final = "k2.judged"  # of audit_completeness, JSON: the files that an audit without findings has judged
PRUNED: Final = "k2.pruned-before"  # rows older than this may have been deleted
LOST: Final = "k2.lost-of."  # + topic/partition, of Bronze: JSON ranges of offsets that Kafka deleted unread
PURGED: Final = "k2.purged-at."  # + topic: older snapshots say nothing about this topic
