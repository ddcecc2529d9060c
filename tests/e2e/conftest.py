"""The cluster that `make cluster-up` or `make e2e` made."""

import os
import time

import pytest

from cluster.providers import provider
from tests.e2e.harness import Cluster


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leaves out what there is no time for: after `K2_E2E_UNTIL`, and what is slow after `K2_E2E_SLOW_UNTIL`.

    Both are seconds since 1970.
    """
    limits = ["K2_E2E_UNTIL", *(["K2_E2E_SLOW_UNTIL"] if item.get_closest_marker("slow") else [])]
    if time.time() > min(float(os.environ.get(name, "inf")) for name in limits):
        pytest.skip("there is no time left for it; make e2e runs it")


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The running cluster; `make e2e` makes it."""
    found = provider(os.environ)
    found.up()
    return Cluster(found.env)
