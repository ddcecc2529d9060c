"""The commands of the page on operating feeds, run verbatim with a real kubectl."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.apiserver.support.servers import BINARIES, Api, Operator, eventually
from tests.apiserver.test_layers import LAYERS, MERGE, TOPIC, Cluster, api, cluster, running
from tests.apiserver.test_operator import create, feed, reconciled, status

__all__ = ["api", "cluster"]

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(120)]

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "operate-feeds.md"


def commands(title: str) -> list[str]:
    """Return the commands of a section, in order."""
    section = PAGE.read_text("utf-8").partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    return re.findall(r"^\$ (.+)$", section, re.MULTILINE)


@pytest.fixture
def shell(tmp_path: Path, namespace: str, operator: Operator):
    """Run a documented command for a feed named `spot`, with the operator's kubeconfig."""
    assert operator.log.parent == tmp_path
    environment = {**os.environ, "KUBECONFIG": str(tmp_path / "kubeconfig")}
    environment["PATH"] = f"{BINARIES}{os.pathsep}{environment['PATH']}"

    def run(command: str, *more: str) -> str:
        assert "-n k2" in command
        words = " ".join([re.sub(r"\bbinance\b", "spot", command).replace("-n k2", f"-n {namespace}"), *more])
        done = subprocess.run(
            ["bash", "-c", words], env=environment, check=False, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    return run


def test_a_feed_is_suspended_restarted_and_resumed(
    api: Api, namespace: str, operator: Operator, cluster: Cluster, shell
):
    suspend, wait, resume = commands("Suspend and resume")
    layers, connections = commands("Restart")
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/spot-shard-0-0"
    with cluster.ready(operator):
        eventually(lambda: all(cluster.rollout_state(layer).get("stable") for layer in LAYERS))
        before = {layer: cluster.application(layer)["spec"]["driver"] for layer in LAYERS}
        template = api.request("GET", path)["spec"]["template"]
        shell(layers)
        eventually(lambda: all(cluster.application(layer)["spec"]["suspend"] for layer in LAYERS))
        for layer in LAYERS:
            cluster.spark(layer, "SUSPENDED")
        eventually(lambda: not any(cluster.application(layer)["spec"]["suspend"] for layer in LAYERS))
        assert all(cluster.application(layer)["spec"]["driver"] != before[layer] for layer in LAYERS)
        shell(connections)
        rounds = operator.rounds("spot")
        eventually(lambda: operator.rounds("spot") > rounds)
        restarted = api.request("GET", path)["spec"]["template"]
        assert "kubectl.kubernetes.io/restartedAt" in restarted["metadata"]["annotations"]
        assert restarted["spec"] == template["spec"]
        for layer in LAYERS:
            cluster.spark(layer, "RUNNING")
        cluster.rolled_out()
        eventually(lambda: running(api, namespace))

        shell(suspend)
        eventually(lambda: all(cluster.application(layer)["spec"]["suspend"] for layer in LAYERS))
        for layer in LAYERS:
            cluster.spark(layer, "SUSPENDED")
        api.request("DELETE", f"/api/v1/namespaces/{namespace}/pods/ingest?gracePeriodSeconds=0")
        gone = {"status": {"replicas": 0, "readyReplicas": 0}}
        api.request("PATCH", f"{path}/status", gone, "application/merge-patch+json")
        assert "condition met" in shell(wait)
        shell(resume)
        eventually(lambda: not any(cluster.application(layer)["spec"]["suspend"] for layer in LAYERS))
        assert api.request("GET", path)["spec"]["replicas"] == 1


def test_a_feed_without_an_operator_is_released_by_removing_its_finalizer(
    api: Api, namespace: str, operator: Operator, shell
):
    create(api, namespace, feed("spot", ["BTCUSDT"]))
    with operator.run():
        eventually(lambda: reconciled(api, namespace, "spot"))
    shell(commands("Delete a feed")[0], "--wait=false")
    body = api.request("GET", api.feed(namespace, "spot"))
    assert "deletionTimestamp" in body["metadata"]
    assert "k2.marketdata.io/operator" in body["metadata"]["finalizers"]
    (free,) = commands("Stuck deletion")
    shell(free)
    assert api.request("GET", api.feed(namespace, "spot"))["kind"] == "Status"


def test_topics_are_deleted_after_their_operator_has_gone(
    api: Api, namespace: str, operator: Operator, cluster: Cluster, shell
):
    delete, *releases, delete_lease, release_topics, delete_topics = commands("Uninstall")
    assert [command.split()[:2] for command in releases] == [["helm", "uninstall"]] * 2
    with cluster.ready(operator):
        topics = TOPIC.format(namespace, "").rstrip("/")
        names = {item["metadata"]["name"] for item in api.request("GET", topics)["items"]}
        for name in names:
            finalized = {"metadata": {"finalizers": ["strimzi.io/topic-operator"]}}
            api.request("PATCH", TOPIC.format(namespace, name), finalized, MERGE)
        shell(delete)
    leases = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
    api.request("POST", leases, {"metadata": {"name": "k2-operator"}})
    shell(delete_lease)
    assert not api.request("GET", leases)["items"]
    left = api.request("GET", topics)["items"]
    assert names
    assert {item["metadata"]["name"] for item in left} == names
    assert all(item["metadata"]["finalizers"] for item in left)
    shell(delete_topics, "--wait=false")
    assert len(api.request("GET", topics)["items"]) == len(names)  # as after `kubectl delete namespace`
    shell(release_topics)
    assert not api.request("GET", topics)["items"]
    shell(delete_topics)


def test_a_channel_is_added_and_removed(api: Api, namespace: str, shell):
    create(api, namespace, feed("spot", ["BTCUSDT"]))
    add, remove = commands("Add and remove channels")
    for command, channels in ((add, ["trades", "quotes"]), (remove, ["trades"])):
        shell(command)
        assert api.request("GET", api.feed(namespace, "spot"))["spec"]["channels"] == channels


def test_the_deletion_policy_is_set_before_the_deletion(api: Api, namespace: str, shell):
    create(api, namespace, feed("spot", ["BTCUSDT"]))
    retain, choose, delete = commands("Delete a feed")
    assert retain == delete
    shell(choose)
    assert api.request("GET", api.feed(namespace, "spot"))["spec"]["deletionPolicy"] == "Delete"
    assert not status(api, namespace, "spot")


def test_every_command_of_the_page_names_a_namespace():
    all_commands = re.findall(r"^\$ (.+)$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert len(all_commands) > 10
    assert [command for command in all_commands if " -n k2" not in command] == []
