"""Fixtures: a real kube-apiserver on a real etcd, and the operator as a process. No other component runs."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.apiserver.support import crds
from tests.apiserver.support.servers import BINARIES, Api, Operator, server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip these tests if the binaries are missing."""
    skip = pytest.mark.skip(reason="KUBEBUILDER_ASSETS is not set: it is the folder of etcd and kube-apiserver")
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent) and not BINARIES:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def bare_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """The API server of a cluster without the CRDs of Strimzi and of the Spark and Prometheus operators."""
    with server(tmp_path_factory.mktemp("bare-apiserver")) as api:
        yield api


@pytest.fixture(scope="session")
def whole_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """The API server of a cluster with these CRDs."""
    if why := crds.missing():
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("whole-apiserver")
    with server(folder, crds.published(folder)) as api:
        yield api


@pytest.fixture
def api(bare_api: Api) -> Api:
    """The API server of a test. A module that needs the other CRDs overrides it."""
    return bare_api


@pytest.fixture
def namespace(api: Api, request: pytest.FixtureRequest) -> str:
    """A namespace for this test."""
    name = f"t-{abs(hash(request.node.nodeid)) % 10**10}"
    api.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    return name


@pytest.fixture
def operator(api: Api, tmp_path: Path, namespace: str) -> Operator:
    """The operator, for the test's namespace."""
    return Operator(tmp_path, api, namespace)
