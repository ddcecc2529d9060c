"""Parsing of Kubernetes resource quantities."""

import pytest

from cluster import sizes


@pytest.mark.parametrize(("amount", "cores"), [("50m", 0.05), ("2", 2.0), ("0", 0.0)])
def test_cores(amount: str, cores: float):
    assert sizes._cores(amount) == cores


@pytest.mark.parametrize(("amount", "mebibytes"), [("512Mi", 512), ("1Gi", 1024), ("1024Ki", 1), ("1048576", 1)])
def test_memory(amount: str, mebibytes: float):
    assert sizes._mebibytes(amount) == mebibytes
