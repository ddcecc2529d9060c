"""Changes of scale between Avro schemas."""

import json

import pytest

from k2.common.decimal_scales import scale_changes


def decimal(scale: int, precision: int = 38) -> dict:
    return {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale}


def record(*fields: tuple) -> str:
    return json.dumps({"type": "record", "name": "R", "fields": [{"name": n, "type": t} for n, t in fields]})


LEVEL = {"type": "record", "name": "Level", "fields": [{"name": "price", "type": decimal(12)}]}


@pytest.mark.parametrize(
    ("older", "newer", "changes"),
    [
        (record(("price", decimal(8, 18))), record(("price", decimal(12))), ["price: scale 8, not 12"]),
        (record(("price", decimal(12, 18))), record(("price", decimal(12))), []),
        (record(("price", ["null", decimal(8)])), record(("price", ["null", decimal(9)])), ["price: scale 8, not 9"]),
        (record(("a", decimal(8))), record(("b", decimal(12))), []),
        (
            record(("levels", {"type": "array", "items": LEVEL})),
            record(("levels", {"type": "array", "items": json.loads(json.dumps(LEVEL).replace("12", "2"))})),
            ["levels[].price: scale 12, not 2"],
        ),
        (
            record(("fees", {"type": "map", "values": decimal(2)})),
            record(("fees", {"type": "map", "values": "bytes"})),
            [],
        ),
        ('"string"', '"string"', []),
    ],
)
def test_a_change_of_scale_is_named(older, newer, changes):
    assert scale_changes(newer, older) == changes
