"""Which folders a purge may remove."""

import pytest

from k2.jobs.purge import is_below


@pytest.mark.parametrize(
    ("place", "warehouse", "below"),
    [
        ("s3://lake/tables/market_data/bronze-1f", "s3://lake/tables", True),
        ("s3://lake/market_data/bronze", "s3://lake/", True),
        ("file:/data/warehouse/market_data/bronze", "file:///data/warehouse", True),
        ("s3://lake", "s3://lake", False),
        ("s3://lake/", "s3://lake", False),
        ("s3://lake-of-others/bronze", "s3://lake", False),
        ("s3://other/bronze", "s3://lake", False),
        ("s3://lake/tables/../checkpoints", "s3://lake/tables", False),
    ],
)
def test_only_folders_within_the_warehouse_are_removed(place: str, warehouse: str, *, below: bool) -> None:
    assert is_below(place, warehouse) is below
