"""Spark computes the digests that `k2.schemas.digests` defines, bit by bit."""

import random
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from k2.jobs.audit import digests
from k2.jobs.spark.local_frames import local_frame
from k2.schemas.digests import GOLD, Digest, digest, row_hash
from k2.schemas.values import decimal

pytestmark = pytest.mark.spark

TYPES = {
    "text": "string", "raw": "binary", "small": "int", "large": "bigint", "price": "decimal(38,12)",
    "whole": "decimal(38,0)", "at": "timestamp", "day": "date", "extra": "map<string,string>",
    "levels": "array<struct<price:bigint,amount:decimal(38,12)>>", "names": "array<string>",
}  # fmt: skip
SCHEMA = ", ".join(f"{name} {kind}" for name, kind in TYPES.items())
CHARACTERS = 'aZ0=:- "\\\n\té€漢😀'


def _text(source: random.Random) -> str:
    return "".join(source.choices(CHARACTERS, k=source.randrange(12)))


def _level(source: random.Random) -> dict[str, Any]:
    return {"price": source.randrange(10**9), "amount": source.choice([None, decimal(source.randrange(10**20))])}


def _row(source: random.Random) -> dict[str, Any]:
    row = {
        "text": _text(source),
        "raw": source.randbytes(source.randrange(40)),
        "small": source.randrange(-(2**31), 2**31),
        "large": source.choice([0, -(2**63), 2**63 - 1, source.randrange(-(2**63), 2**63)]),
        "price": decimal(source.choice([0, 1, 10**12, -(10**13), 10**38 - 1, source.randrange(10**38)])),
        "whole": Decimal(source.choice([0, 100, source.randrange(10**20)])),
        "at": datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=source.randrange(2**52)),
        "day": date(1969, 1, 1) + timedelta(days=source.randrange(50_000)),
        "extra": {_text(source): source.choice([None, _text(source)]) for _ in range(source.randrange(5))},
        "levels": [source.choice([None, _level(source)]) for _ in range(source.randrange(4))],
        "names": [source.choice([None, _text(source)]) for _ in range(source.randrange(4))],
    }
    return {name: None if source.random() < 0.15 else value for name, value in row.items()}


def _sent(row: dict[str, Any]) -> dict[str, Any]:
    return {name: str(value) if isinstance(value, Decimal | date) else value for name, value in row.items()} | {
        "price": _number(row["price"]),
        "at": row["at"],
        "levels": row["levels"] and [level and level | {"amount": _number(level["amount"])} for level in row["levels"]],
    }


def _number(value: Decimal | None) -> str | None:
    return None if value is None else f"{value:f}"


def test_spark_hashes_and_sums_random_rows_as_python_does(spark):
    source = random.Random(20_260_302)
    rows = [_row(source) for _ in range(400)]
    frame = local_frame(spark, map(_sent, rows), SCHEMA)
    hashes = frame.select(digests.row_hash(frame, GOLD, TYPES)).collect()
    assert [row[0] for row in hashes] == [row_hash(GOLD, row).hex() for row in rows]
    assert digests.digest(frame, GOLD, TYPES) == digest(GOLD, rows)
    assert digests.digest(frame.where("false"), GOLD, TYPES) == Digest()
    narrow = ("price", "text")
    assert digests.digest(frame, GOLD, narrow) == digest(GOLD, ({name: row[name] for name in narrow} for row in rows))


def test_limbs_carry_beyond_their_width_and_wrap_around(spark):
    hashes = spark.range(1000).selectExpr(f"'{'f' * 64}' AS everything", f"IF(id < 10, '{'f' * 64}', NULL) AS some")
    row = hashes.agg(*digests.sums("everything", "a"), *digests.sums("some", "b")).collect()[0].asDict()
    assert digests.from_sums(row, "a") == Digest(1000, 2**256 - 1000)
    assert digests.from_sums(row, "b") == Digest(10, 2**256 - 10)


def test_a_column_without_canonical_bytes_is_refused(spark):
    frame = spark.range(1).selectExpr("array(1.5D) AS list")
    with pytest.raises(TypeError, match="column list has no canonical bytes: double"):
        digests.row_hash(frame, GOLD, ["list"])
