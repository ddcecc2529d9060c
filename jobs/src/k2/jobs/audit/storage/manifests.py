"""The files that a snapshot of a table names in its manifests."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.jobs.audit.incremental.file_sets import LiveFile
from k2.schemas.tables import Table

KINDS: Final = ("data file", "delete file", "delete file")  # by Iceberg's number of a file's content

_FEW: Final = 200  # files whose metadata are read without a query


def live_files(
    spark: SparkSession, table: Table, java_table: Any, snapshot: Any, times: Sequence[str]
) -> Iterator[LiveFile]:
    """Yield the data and delete files of a snapshot; `times` are the columns with the times of its rows."""
    manifests = list(snapshot.allManifests(java_table.io()))
    count = sum(int(one.addedFilesCount() or 0) + int(one.existingFilesCount() or 0) for one in manifests)
    if count <= _FEW:
        return _read(spark, java_table, manifests, times)
    return _queried(spark, table, int(snapshot.snapshotId()), times)


def _read(spark: SparkSession, java_table: Any, manifests: Iterable[Any], times: Sequence[str]) -> Iterator[LiveFile]:
    """Yield the files in some manifests, read by this process: for a few, a query would cost more."""
    api: Any = spark._jvm.org.apache.iceberg  # type: ignore[union-attr]  # noqa: SLF001 - as in SnapshotHistory
    io, specs = java_table.io(), java_table.specs()
    fields = [field for name in times if (field := java_table.schema().findField(name)) is not None]
    for manifest in manifests:
        is_data = str(manifest.content()) == "DATA"
        reader = (api.ManifestFiles.read if is_data else api.ManifestFiles.readDeleteManifest)(manifest, io, specs)
        files = reader.iterator()
        while files.hasNext():
            file = files.next()
            partition = str(specs.get(file.specId()).partitionToPath(file.partition()))
            yield LiveFile(
                str(file.location()), KINDS[int(file.content().id())], int(file.fileSizeInBytes()),
                int(file.recordCount()), partition, int(file.fileSequenceNumber()), _lowest(api, file, fields),
            )  # fmt: skip
        files.close()
        reader.close()


def _lowest(api: Any, file: Any, fields: Iterable[Any]) -> int | None:
    bounds = file.lowerBounds()
    bounded = [(field, bounds.get(field.fieldId())) for field in fields] if bounds is not None else []
    values = (
        api.types.Conversions.fromByteBuffer(field.type(), bound) for field, bound in bounded if bound is not None
    )
    return min(map(int, values), default=None)


def _queried(spark: SparkSession, table: Table, snapshot_id: int, times: Sequence[str]) -> Iterator[LiveFile]:
    entries = spark.sql(f"SELECT * FROM {table.identifier}.entries VERSION AS OF {snapshot_id}")  # noqa: S608 - our own
    parts: Any = entries.select("data_file.partition.*").columns
    metrics: Any = entries.select("readable_metrics.*").columns
    bounds = [F.unix_micros(f"readable_metrics.{name}.lower_bound") for name in times if name in metrics]
    rows = entries.where("status < 2").select(
        F.col("data_file.file_path").alias("path"),
        F.col("data_file.content").alias("content"),
        F.col("data_file.file_size_in_bytes").alias("size"),
        F.col("data_file.record_count").alias("rows"),
        F.concat_ws("/", *(F.concat(F.lit(f"{name}="), F.col(f"data_file.partition.{name}")) for name in parts)).alias(
            "partition"
        ),
        F.col("file_sequence_number").alias("sequence"),
        (F.least(*bounds) if len(bounds) > 1 else bounds[0] if bounds else F.lit(None).cast("bigint")).alias("first"),
    )
    for row in rows.toLocalIterator():
        yield LiveFile(
            row["path"], KINDS[row["content"]], row["size"], row["rows"], row["partition"], row["sequence"],
            row["first"],
        )  # fmt: skip
