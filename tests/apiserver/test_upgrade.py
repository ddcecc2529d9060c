"""Upgrades: another release of the operator leaves unchanged objects of its predecessor alone."""

import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.apiserver.support.servers import SETTINGS, Api, Operator, eventually
from tests.apiserver.test_layers import LAYERS, SPARK, TOPIC, Cluster, api, cluster, running
from tests.apiserver.test_operator import KINDS, create, feed, reconciled

__all__ = ["api", "cluster"]

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(240)]

ROOT = Path(__file__).parents[2]
SOURCES = ("operator/src", "schemas/src", "common/src")
PLACES = {
    **KINDS,
    "SparkApplication": SPARK.format("{}", "").rstrip("/"),
    "KafkaTopic": TOPIC.format("{}", "").rstrip("/"),
    "PodMonitor": "/apis/monitoring.coreos.com/v1/namespaces/{}/podmonitors",
}
DESIRED = """
import json, sys
from k2.operator.desired import children
from k2.operator.settings import load
try:
    from k2.schemas.feed import ExchangeFeed
except ImportError:
    from k2.schemas.feed.model import ExchangeFeed
body, settings = json.load(sys.stdin)
feed = ExchangeFeed.from_body({name: body[name] for name in ("apiVersion", "kind", "metadata", "spec")})
manifests = children(feed, load(settings, {}))
print(json.dumps([sys.modules["k2.operator.settings"].__file__, manifests]))
"""


def git(*words: str) -> bytes:
    """Run git in this repository and return its output."""
    return subprocess.run(["git", "-C", str(ROOT), *words], check=True, capture_output=True).stdout


@pytest.fixture(scope="module")
def predecessor(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The PYTHONPATH of the last release, or before the first release, of the last change of the operator."""
    try:
        shallow = git("rev-parse", "--is-shallow-repository").strip() == b"true"
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"the repository's history is needed: {error}")
    if shallow:
        pytest.skip("the repository's history is needed, and this clone is shallow")
    tags = git("tag", "--list", "v[0-9]*", "--merged", "HEAD^", "--sort=-v:refname").decode().split()
    commit = tags[0] if tags else git("rev-list", "-n", "1", "--skip", "1", "HEAD", "--", *SOURCES).decode().strip()
    existing = git("ls-tree", "-d", "--name-only", commit, *SOURCES).decode().split()
    sources = [source for source in SOURCES if source in existing]
    folder = tmp_path_factory.mktemp("predecessor")
    with tarfile.open(fileobj=io.BytesIO(git("archive", commit, *sources))) as archive:
        archive.extractall(folder, filter="data")
    return os.pathsep.join(str(folder / source) for source in sources)


def desired(body: dict[str, Any], path: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the manifests that the code under a PYTHONPATH builds for a feed."""
    command = [sys.executable, "-c", DESIRED]
    stdin = json.dumps([body, yaml.safe_dump(SETTINGS)]).encode()
    done = subprocess.run(command, input=stdin, env={**os.environ, "PYTHONPATH": path}, check=True, capture_output=True)
    module_file, manifests = json.loads(done.stdout)
    assert module_file.startswith(path.partition(os.pathsep)[0])
    return {(manifest["kind"], manifest["metadata"]["name"]): manifest for manifest in manifests}


def live_objects(api: Api, namespace: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Return all objects in a namespace, of the kinds that the operator creates."""
    objects = {}
    for kind, place in PLACES.items():
        items = api.request("GET", place.format(namespace))["items"]
        objects |= {(kind, item["metadata"]["name"]): item for item in items}
    return objects


def is_settled(cluster: Cluster, api: Api, namespace: str) -> bool:
    """Return whether the feed is Running and every application has a stable spec."""
    return running(api, namespace) and all(cluster.rollout_state(layer).get("stable") for layer in LAYERS)


def versions(objects: Mapping[tuple[str, str], dict[str, Any]], field: str = "resourceVersion") -> dict[str, Any]:
    """Return a version of each object."""
    return {"/".join(key): item["metadata"][field] for key, item in objects.items() if field in item["metadata"]}


def test_the_next_release_does_not_touch_unchanged_objects(
    api: Api, namespace: str, operator: Operator, cluster: Cluster, predecessor: str
):
    with cluster.ready(operator, PYTHONPATH=predecessor):
        eventually(lambda: is_settled(cluster, api, namespace))
    body = api.request("GET", api.feed(namespace, "spot"))
    then, today = (desired(body, path) for path in (predecessor, os.pathsep.join(str(ROOT / src) for src in SOURCES)))
    alike = {key for key, manifest in then.items() if today.get(key) == manifest}
    before = live_objects(api, namespace)
    with operator.run(K2_OPERATOR_RESYNC="2"):
        eventually(lambda: operator.rounds("spot") >= 2, within=60)
        after = live_objects(api, namespace)
    assert set(then) <= set(before)
    assert versions({key: after[key] for key in alike}) == versions({key: before[key] for key in alike})
    for layer in LAYERS:
        key = ("SparkApplication", f"spot-{layer}")
        if key not in alike:  # an application whose spec changes finishes its batch first
            assert {**after[key]["spec"], "suspend": False} == before[key]["spec"]


def test_other_images_restart_only_what_runs_them_and_drivers_only_at_the_end_of_a_batch(
    api: Api, namespace: str, operator: Operator, cluster: Cluster
):
    with cluster.ready(operator):
        eventually(lambda: is_settled(cluster, api, namespace))
    first = live_objects(api, namespace)
    with operator.run(K2_OPERATOR_INGEST_IMAGE="k2/ingest:next", K2_OPERATOR_RESYNC="2"):
        eventually(lambda: operator.rounds("spot") >= 2, within=60)
        second = live_objects(api, namespace)
        changed = {name for name, version in versions(second).items() if version != versions(first)[name]}
        assert changed == {"Deployment/spot-shard-0-0"}
        cluster.rolled_out()
        eventually(lambda: running(api, namespace))
    second = live_objects(api, namespace)
    images = {"K2_OPERATOR_INGEST_IMAGE": "k2/ingest:next", "K2_OPERATOR_JOBS_IMAGE": "k2/jobs:next"}
    with operator.run(**images):
        eventually(lambda: all(cluster.application(layer)["spec"]["suspend"] for layer in LAYERS))
        assert {cluster.application(layer)["spec"]["image"] for layer in LAYERS} == {"k2/jobs:test"}
        cluster.spark("gold", "SUSPENDED")
        eventually(lambda: cluster.application("gold")["spec"]["image"] == "k2/jobs:next")
        assert not cluster.application("gold")["spec"]["suspend"]
        assert {cluster.application(layer)["spec"]["image"] for layer in ("bronze", "silver")} == {"k2/jobs:test"}
        third = live_objects(api, namespace)
    changed = {name for name, version in versions(third).items() if version != versions(second)[name]}
    assert changed == {f"SparkApplication/spot-{layer}" for layer in LAYERS}


def before_the_labels(deployment: dict[str, Any]) -> dict[str, Any]:
    """Return a Deployment as releases made it whose selectors had `app.kubernetes.io/instance`."""
    labels = {"app.kubernetes.io/instance": "spot"}
    old: dict[str, Any] = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "spot-ingest-0-0"}}
    copied = {name: deployment["metadata"][name] for name in ("labels", "ownerReferences", "namespace")}
    old["metadata"] |= copied | {"labels": copied["labels"] | labels}
    spec = json.loads(json.dumps(deployment["spec"]))
    spec["selector"]["matchLabels"] |= labels
    spec["template"]["metadata"]["labels"] |= labels
    return old | {"spec": spec}


def test_a_deployment_with_another_selector_stays_until_its_successor_receives(
    api: Api, namespace: str, operator: Operator, cluster: Cluster
):
    folder = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    create(api, namespace, feed("spot", ["BTCUSDT"]))
    with operator.run():
        eventually(lambda: reconciled(api, namespace, "spot"))
    successor = api.request("GET", f"{folder}/spot-shard-0-0")
    old = before_the_labels(successor)
    manager = "?fieldManager=k2-operator&force=true"
    written = api.request("PATCH", f"{folder}/spot-ingest-0-0{manager}", old, "application/apply-patch+yaml")
    assert written["kind"] == "Deployment", written
    api.request("DELETE", f"{folder}/spot-shard-0-0")
    cluster.pod("spot-ingest-0-0-69c6bb7f8d-aaaaa", old["spec"]["template"]["metadata"]["labels"])

    def exists() -> bool:
        return bool(api.request("GET", f"{folder}/spot-ingest-0-0")["kind"] == "Deployment")

    with operator.run(K2_OPERATOR_RESYNC="1"):
        created = eventually(lambda: api.request("GET", f"{folder}/spot-shard-0-0").get("spec"))
        assert "app.kubernetes.io/instance" not in json.dumps(created)
        cluster.rolled_out()
        rounds = operator.rounds("spot")
        eventually(lambda: operator.rounds("spot") >= rounds + 3)
        assert exists()  # ready, and nothing has reported that it receives
        cluster.pod("spot-shard-0-0-6d4cf56db6-bbbbb", created["template"]["metadata"]["labels"])
        eventually(lambda: not exists())
        assert api.request("GET", f"{folder}/spot-shard-0-0")["spec"] == created
