"""The cluster that `make cluster-up` or `make e2e` made."""

import os
import time

import pytest

from cluster.providers import provider
from tests.e2e.harness import Cluster


@pytest.fixture(autouse=True)
def _in_time(request: pytest.FixtureRequest) -> None:
    """Leaves a slow test out whose turn comes after `K2_E2E_SLOW_UNTIL`, seconds since 1970."""
    until = float(os.environ.get("K2_E2E_SLOW_UNTIL", "inf"))
    if request.node.get_closest_marker("slow") and time.time() > until:
        pytest.skip("slow, and there is no time left for it; make e2e runs it")


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The running cluster; `make e2e` makes it."""
    found = provider(os.environ)
    found.up()
    return Cluster(found.env)
