from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from pyiceberg.types import DecimalType, LongType, StringType, TimestamptzType

from k2.cli.embedded.layout import Layout
from k2.query.iceberg import catalog, tables
from k2.schemas.channels import exchange_tables
from k2.schemas.tables import COMPLETENESS_TABLE, GOLD_TABLE

if TYPE_CHECKING:
    from pyiceberg.schema import Schema


@pytest.mark.parametrize("spec", exchange_tables("kraken"), ids=lambda spec: spec.name)
def test_a_table_reads_back_as_its_spec_says(layout: Layout, spec) -> None:
    layout.root.mkdir()
    with closing(catalog.connect(layout.platform(), create=True)) as opened:
        tables.ensure(opened, [spec])
        table = opened.load_table(tables.identifier(spec))
    fields = table.schema().fields
    assert [(field.field_id, field.name, field.doc) for field in fields] == [
        (number, column.name, column.doc) for number, column in enumerate(spec.columns, 1)
    ]
    assert not any(field.required for field in fields)
    assert len({*table.schema()._lazy_id_to_name}) == len(table.schema().field_ids)
    assert [str(field.transform) for field in table.spec().fields] == [part.transform for part in spec.partitions]
    assert (
        table.properties.items()
        >= {key: value for key, value in spec.all_properties.items() if key != "format-version"}.items()
    )
    assert table.format_version == 2


def test_types_sort_order_and_partition_names_are_sparks() -> None:
    columns: Schema = tables.schema(GOLD_TABLE)
    assert columns.find_type("price") == DecimalType(18, 8)
    assert columns.find_type("timestamp") == TimestamptzType()
    order = tables.sort_order(GOLD_TABLE, columns).fields
    assert [columns.find_column_name(field.source_id) for field in order] == ["symbol", "timestamp"]
    nested = tables.schema(COMPLETENESS_TABLE)
    assert nested.find_type("missing.last_id") == StringType()
    assert nested.find_type("by_source.value") == LongType()
    assert [field.name for field in tables.partition_spec(COMPLETENESS_TABLE, nested).fields] == ["hour_month"]


def test_an_unsupported_type_is_an_error() -> None:
    with pytest.raises(ValueError, match="interval"):
        tables.iceberg_type("interval", iter(()))
