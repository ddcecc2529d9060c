"""The cluster that `make cluster-up` or `make e2e` created."""

import os

import pytest

from cluster.providers import provider
from tests.e2e.harness import Cluster


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """Return the running cluster."""
    running = provider(os.environ)
    running.up()
    return Cluster(running.env)
