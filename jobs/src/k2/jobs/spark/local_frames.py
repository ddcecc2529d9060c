"""Small DataFrames from Python values, without a Python worker.

`SparkSession.createDataFrame` would start a Python process beside the JVM just to unpickle a few rows, and needs to be
told which Python that is; a JSON literal needs neither.
"""

import json
from base64 import b64encode
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom


def frame(spark: SparkSession, rows: Iterable[Mapping[str, Any]], ddl: str) -> DataFrame:
    """Rows with the columns of a DDL string. Times must be aware; a column that a row lacks is null."""
    text = json.dumps(list(rows), default=_plain, separators=(",", ":"))
    found = spark.range(1, numPartitions=1).select(
        F.explode(F.from_json(F.lit(text), f"array<struct<{ddl}>>", {"mode": "FAILFAST"})).alias("row")
    )
    return found.select("row.*")


def _plain(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat(timespec="microseconds")
    if isinstance(value, bytes):
        return b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} has no place in a frame")
