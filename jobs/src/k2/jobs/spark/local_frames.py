"""Small DataFrames from Python values, without a Python worker.

`SparkSession.createDataFrame` would start a Python process next to the JVM just to unpickle a few rows, and needs the
path of that Python; a JSON literal needs neither.
"""

import json
from base64 import b64encode
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom


def local_frame(spark: SparkSession, rows: Iterable[Mapping[str, Any]], ddl: str) -> DataFrame:
    """Return a DataFrame of rows with the columns of a DDL string.

    Datetimes must be timezone-aware. Columns that a row lacks are null. Raises TypeError for unsupported values.
    """
    text = json.dumps(list(rows), default=_to_json, separators=(",", ":"))
    exploded = spark.range(1, numPartitions=1).select(
        F.explode(F.from_json(F.lit(text), f"array<struct<{ddl}>>", {"mode": "FAILFAST"})).alias("row")
    )
    return exploded.select("row.*")


def _to_json(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat(timespec="microseconds")
    if isinstance(value, bytes):
        return b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} is not supported in a local frame")
