"""Two operators that are peers: one is active, the other is on standby."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.apiserver.faults.test_faults import complete
from tests.apiserver.support.servers import Api, Operator, eventually
from tests.apiserver.test_operator import create, feed

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(180)]

NAME = "k2-operators"
_GROUP = "/apis/kopf.dev/v1"
# kopf's documentation has this definition: any status, nothing else.
DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "kopfpeerings.kopf.dev"},
    "spec": {
        "scope": "Namespaced",
        "group": "kopf.dev",
        "names": {"kind": "KopfPeering", "plural": "kopfpeerings", "singular": "kopfpeering"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {"status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
                    }
                },
            }
        ],
    },
}


@pytest.fixture
def peering(api: Api, namespace: str) -> str:
    """Create a KopfPeering; return its path."""
    api.request("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", DEFINITION)
    place = f"{_GROUP}/namespaces/{namespace}/kopfpeerings"
    eventually(lambda: api.request("GET", place).get("kind") == "KopfPeeringList")
    body = {"apiVersion": "kopf.dev/v1", "kind": "KopfPeering", "metadata": {"name": NAME}}
    eventually(lambda: api.request("POST", place, body).get("kind") == "KopfPeering")
    return f"{place}/{NAME}"


def test_of_two_peers_the_one_with_the_lower_priority_writes_nothing_until_it_is_alone(
    api: Api, namespace: str, tmp_path: Path, peering: str
):
    first, second = Operator(tmp_path / "first", api, namespace), Operator(tmp_path / "second", api, namespace)
    peers = [f"--peering={NAME}"]

    def peers_count() -> int:
        return len(api.request("GET", peering).get("status", {}))

    with ExitStack() as stack, first.run(*peers, "--priority=100"):
        eventually(lambda: peers_count() == 1)
        stack.enter_context(second.run(*peers, "--priority=1"))
        eventually(lambda: peers_count() == 2)
        create(api, namespace, feed("spot", ["BTCUSDT"]))
        eventually(lambda: complete(api, namespace))
        assert not second.writes()
        later = stack.pop_all()
    with later:
        create(api, namespace, feed("other", ["ETHUSDT"]))
        eventually(lambda: second.rounds("other"), within=90)
