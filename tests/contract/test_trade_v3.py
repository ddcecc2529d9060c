"""Schema v3 as others rely on it: golden bytes, and what a later version may change."""

import copy
import json
from decimal import Decimal
from io import BytesIO
from typing import Any

import pytest
from fastavro import parse_schema, schemaless_reader, schemaless_writer
from fastavro.read import SchemaResolutionError

from k2.cli.embedded.schema_store import Incompatible, SchemaStore
from k2.schemas.codecs import avro, wire
from k2.schemas.codecs.avro import TradeEncoder
from k2.schemas.formats import FORMAT
from k2.schemas.records.trade import Side, Trade
from k2.schemas.values import from_micros

TRADE = Trade(
    "3735683259", "BTCUSDT", "BINANCE", "BTC", "USDT", 1_723_161_255_342_000, 61_837_630_000_000_000, 20_000_000_000,
    Side.SELL, 1_723_161_255_343_123, (("pair", "BTCUSDT"), ("buyer_maker", "true"), ("source", "live")),
)  # fmt: skip
GOLDEN = (
    "00000000014831343038396234362d613963662d386265642d383030302d30303030646561613030626214333733353638333235390e"
    "4254435553445402064254430855534454e0be9fe897cd8f061000dbb0ff31e6ec000a04a817c80002a6d09fe897cd8f060608706169"
    "720e425443555344541662757965725f6d616b657208747275650c736f75726365086c69766500"
)


def schema(change: Any = None) -> dict[str, Any]:
    """The registered schema as a plain object, changed."""
    schema_document = copy.deepcopy(json.loads(avro.text()))
    if change:
        change(schema_document)
    return schema_document


def read(body: bytes, writer: dict[str, Any], reader: dict[str, Any]) -> dict[str, Any]:
    return schemaless_reader(BytesIO(body), parse_schema(writer), parse_schema(reader))


def add_nullable(schema_document: dict[str, Any]) -> None:
    schema_document["fields"].append({"name": "venue_fee", "type": ["null", "string"], "default": None})


def add_required(schema_document: dict[str, Any]) -> None:
    schema_document["fields"].append({"name": "venue_fee", "type": "string"})


def add_exchange(schema_document: dict[str, Any]) -> None:
    next(field for field in schema_document["fields"] if field["name"] == "exchange")["type"]["symbols"].append(
        "GEMINI"
    )


def rescale_price(schema_document: dict[str, Any]) -> None:
    next(field for field in schema_document["fields"] if field["name"] == "price")["type"]["scale"] = 8


def retype_price(schema_document: dict[str, Any]) -> None:
    next(field for field in schema_document["fields"] if field["name"] == "price")["type"] = "long"


def test_the_bytes_of_a_trade_never_change():
    assert TradeEncoder(1).encode(TRADE).hex() == GOLDEN


def test_the_golden_bytes_read_back_as_the_trade():
    schema_id, body = wire.split(bytes.fromhex(GOLDEN))
    record = avro.decode(body)
    assert schema_id == 1
    assert record["price"] == Decimal("61837.63000000")
    assert record["quantity"] == Decimal("0.02000000")
    assert record["timestamp"] == from_micros(TRADE.timestamp)
    assert record["ingestion_timestamp"] == from_micros(TRADE.ingestion_timestamp)
    assert record["side"] == "SELL"
    assert record["vendor_data"] == {"pair": "BTCUSDT", "buyer_maker": "true", "source": "live"}


def test_the_schema_is_the_contracts_twelve_fields():
    schema_document = schema()
    assert (schema_document["name"], schema_document["namespace"]) == ("Trade", "k2.marketdata.v3")
    types = {field["name"]: field["type"] for field in schema_document["fields"]}
    assert list(types) == [
        "message_id", "trade_id", "symbol", "exchange", "base_asset", "quote_currency", "timestamp", "price",
        "quantity", "side", "ingestion_timestamp", "vendor_data",
    ]  # fmt: skip
    money = {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 12}
    assert types["price"] == types["quantity"] == money
    assert types["timestamp"] == types["ingestion_timestamp"] == {"type": "long", "logicalType": "timestamp-micros"}
    assert types["message_id"] == {"type": "string", "logicalType": "uuid"}
    assert types["side"]["symbols"] == ["BUY", "SELL"]
    assert types["vendor_data"] == {"type": "map", "values": "string"}


def test_the_schema_says_which_format_its_records_have():
    assert avro.format_of(avro.text()) == FORMAT == 2
    assert avro.format_of(json.dumps({key: part for key, part in schema().items() if key != "k2.format"})) == 1
    assert avro.format_of('"string"') == 1


def test_a_nullable_field_can_be_added_while_old_bytes_still_read():
    newer = schema(add_nullable)
    record = read(wire.split(bytes.fromhex(GOLDEN))[1], schema(), newer)
    assert record["venue_fee"] is None
    assert record["trade_id"] == TRADE.trade_id


def test_todays_reader_reads_what_a_newer_writer_wrote():
    newer = parse_schema(schema(add_nullable))
    out = BytesIO()
    record = avro.decode(wire.split(bytes.fromhex(GOLDEN))[1])
    schemaless_writer(out, newer, record | {"venue_fee": "0.1"})
    assert avro.decode(out.getvalue(), newer) == record


def test_an_exchange_that_the_reader_does_not_know_reads_as_unknown():
    newer = schema(add_exchange)
    record = avro.decode(wire.split(bytes.fromhex(GOLDEN))[1])
    out = BytesIO()
    schemaless_writer(out, parse_schema(newer), record | {"exchange": "GEMINI"})
    assert read(out.getvalue(), newer, schema())["exchange"] == "UNKNOWN"


def test_a_required_field_without_default_would_not_read_old_bytes():
    with pytest.raises(SchemaResolutionError):
        read(wire.split(bytes.fromhex(GOLDEN))[1], schema(), schema(add_required))


@pytest.mark.parametrize("change", [add_nullable, add_exchange])
def test_the_registry_lets_a_compatible_version_in(tmp_path, change):
    store = SchemaStore(tmp_path / "registry.db")
    first = store.register("t-value", avro.text())
    store.set_level("t-value", "BACKWARD")
    assert store.register("t-value", json.dumps(schema(change))) != first


@pytest.mark.parametrize("change", [add_required, retype_price, rescale_price])
def test_the_registry_refuses_a_version_that_cannot_read_old_trades(tmp_path, change):
    store = SchemaStore(tmp_path / "registry.db")
    store.register("t-value", avro.text())
    store.set_level("t-value", "BACKWARD")
    with pytest.raises(Incompatible, match="BACKWARD"):
        store.register("t-value", json.dumps(schema(change)))
