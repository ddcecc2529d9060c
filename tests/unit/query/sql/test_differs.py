"""The SQL that compares two copies of a record agrees with the definition in Python."""

import random

import duckdb
import pyarrow as pa

from k2.query.sql import record_sql
from k2.schemas.channels import TRADES
from k2.schemas.content import differences

AT = 1_770_000_000_000_000


def test_sql_and_python_agree_on_what_is_the_same():
    chance = random.Random(3)
    rows: dict[str, list[dict[str, object]]] = {"one": [], "other": []}
    for number in range(800):
        base = AT + chance.choice([0, 1, 999, 1_000, chance.randrange(10_000_000)])
        steps = (0, chance.choice([0, 1, -1, 999, -999, 1_000, 1_000_000, -(base % 1_000)]))
        for name, step in zip(rows, steps, strict=True):
            price, side = chance.choice([1, 1, 1, 2]), chance.choice(["BUY", "BUY", "SELL"])
            rows[name].append({"n": number, "timestamp": base + step, "price": price, "quantity": 1, "side": side})
    expected = {
        one["n"]
        for one, other in zip(*rows.values(), strict=True)
        if differences(TRADES.content, one, other, (one["timestamp"], other["timestamp"]))  # type: ignore[arg-type]
    }
    schema = pa.schema(
        {"n": pa.int64(), "timestamp": pa.timestamp("us", "UTC"), "price": pa.int64(), "quantity": pa.int64()}
        | {"side": pa.string()}
    )
    with duckdb.connect() as connection:
        for name, entries in rows.items():
            connection.register(name, pa.Table.from_pylist(entries, schema))
        condition = record_sql.differs(TRADES, "one", "other")
        statement = f"SELECT one.n FROM one JOIN other USING (n) WHERE {condition}"
        assert {number for (number,) in connection.sql(statement).fetchall()} == expected
    assert 200 < len(expected) < 700
