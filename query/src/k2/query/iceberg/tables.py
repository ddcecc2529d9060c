"""Create the tables with PyIceberg: the same tables that Spark creates, from the same specs.

Field ids are assigned in Iceberg's own order (top level first, then nested fields), and partition fields are named as
Spark's DDL names them, so that it does not matter which engine creates a table.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Final

from k2.query import ddl
from k2.schemas.tables import NAMESPACE, Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pyiceberg.catalog import Catalog
    from pyiceberg.partitioning import PartitionSpec
    from pyiceberg.schema import Schema
    from pyiceberg.table import Table as IcebergTable
    from pyiceberg.table.sorting import SortOrder
    from pyiceberg.types import IcebergType

_FIRST_PARTITION_ID: Final = 1000


def identifier(table: Table | str) -> tuple[str, str]:
    """Return the namespace and name of a table in the catalog."""
    return NAMESPACE, table if isinstance(table, str) else table.name


def ensure(catalog: Catalog, tables: Iterable[Table]) -> list[IcebergTable]:
    """Create the tables that are missing; return all, in order."""
    catalog.create_namespace_if_not_exists(NAMESPACE)
    return [create(catalog, table) for table in tables]


def create(catalog: Catalog, table: Table) -> IcebergTable:
    """Create one table if it is missing; its namespace must exist."""
    columns = schema(table)
    return catalog.create_table_if_not_exists(
        identifier(table),
        columns,
        partition_spec=partition_spec(table, columns),
        sort_order=sort_order(table, columns),
        properties=dict(table.all_properties),
    )


def schema(table: Table) -> Schema:
    """Return the columns with their docs, all optional as in Spark's DDL."""
    from pyiceberg.schema import Schema
    from pyiceberg.types import NestedField

    nested = count(len(table.columns) + 1)
    return Schema(
        *(
            NestedField(number, column.name, iceberg_type(column.type, nested), required=False, doc=column.doc)
            for number, column in enumerate(table.columns, 1)
        )
    )


def partition_spec(table: Table, columns: Schema) -> PartitionSpec:
    """Return the partition fields: `timestamp_day` for a day of `timestamp`, the column's own name for identity."""
    from pyiceberg.partitioning import PartitionField, PartitionSpec
    from pyiceberg.transforms import parse_transform

    return PartitionSpec(
        *(
            PartitionField(
                source_id=columns.find_field(part.column).field_id,
                field_id=_FIRST_PARTITION_ID + number,
                transform=parse_transform(part.transform),
                name=part.column if part.transform == "identity" else f"{part.column}_{part.transform}",
            )
            for number, part in enumerate(table.partitions)
        )
    )


def sort_order(table: Table, columns: Schema) -> SortOrder:
    """Return the sort order: ascending, nulls first, as Spark's `ORDERED BY`; unsorted if the spec names no columns."""
    from pyiceberg.table.sorting import UNSORTED_SORT_ORDER, SortField, SortOrder
    from pyiceberg.transforms import IdentityTransform

    if not table.sort:
        return UNSORTED_SORT_ORDER
    identity = IdentityTransform()  # type: ignore[var-annotated]
    return SortOrder(
        *(SortField(source_id=columns.find_field(name).field_id, transform=identity) for name in table.sort)
    )


def iceberg_type(text: str, ids: Iterator[int]) -> IcebergType:
    """Return the Iceberg type of a Spark DDL type; nested fields take their ids from `ids`.

    Raises `ValueError` for a type that no table uses.
    """
    from pyiceberg import types

    text = text.strip()
    outer, _, rest = text.partition("<")
    inner = rest.removesuffix(">")
    match outer:
        case "array":
            number = next(ids)
            return types.ListType(number, iceberg_type(inner, ids), element_required=False)
        case "map":
            key, value = ddl.split(inner)
            key_id, value_id = next(ids), next(ids)
            return types.MapType(
                key_id, iceberg_type(key, ids), value_id, iceberg_type(value, ids), value_required=False
            )
        case "struct":
            fields = [part.partition(":") for part in ddl.split(inner)]
            numbers = [next(ids) for _ in fields]
            return types.StructType(
                *(
                    types.NestedField(number, name.strip(), iceberg_type(kind, ids), required=False)
                    for number, (name, _, kind) in zip(numbers, fields, strict=True)
                )
            )
    if match := ddl.DECIMAL.fullmatch(text):
        return types.DecimalType(int(match[1]), int(match[2]))
    return _primitive(text)


def _primitive(text: str) -> IcebergType:
    from pyiceberg import types

    primitives: dict[str, IcebergType] = {
        "string": types.StringType(),
        "binary": types.BinaryType(),
        "boolean": types.BooleanType(),
        "int": types.IntegerType(),
        "bigint": types.LongType(),
        "double": types.DoubleType(),
        "date": types.DateType(),
        "timestamp": types.TimestamptzType(),
    }
    if text not in primitives:
        raise ValueError(
            f"{text!r} is not a column type of K2's tables: {', '.join(primitives)}, decimal, array, map, struct"
        )
    return primitives[text]
