"""The charts on a real API server: their objects are accepted, and the operator works with exactly their RBAC."""

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from k2.operator.desired.naming import FEED
from tests.apiserver.support.servers import BINARIES, TOKEN, Api, eventually, free_port, kubeconfig_of, running
from tests.apiserver.test_operator import children, create, feed, reconciled, status
from tests.charts.rendering import CHARTS, HELM, SCENARIOS, name, needs_helm, one, render, template

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(180), needs_helm]

CHART = "k2-operator"
RIGHTS = CHARTS.parent / "docs/reference/rbac.md"
OTHERS = {
    "KafkaTopic": "/apis/kafka.strimzi.io/v1/namespaces/{}/kafkatopics",
    "SparkApplication": "/apis/sparkoperator.k8s.io/v1beta2/namespaces/{}/sparkapplications",
    "PodMonitor": "/apis/monitoring.coreos.com/v1/namespaces/{}/podmonitors",
}
RESTRICTED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}


@pytest.fixture
def api(whole_api: Api) -> Api:
    return whole_api


@pytest.fixture
def restricted(api: Api, namespace: str) -> str:
    """A namespace that enforces the restricted Pod Security profile."""
    change = {"metadata": {"labels": RESTRICTED}}
    api.request("PATCH", f"/api/v1/namespaces/{namespace}", change, "application/merge-patch+json")
    return namespace


@pytest.fixture
def config(api: Api, namespace: str, tmp_path: Path) -> Path:
    """The administrator's kubeconfig, in the test's namespace."""
    path, kubeconfig = tmp_path / "admin", kubeconfig_of(api.url, api.certificate, TOKEN)
    kubeconfig["contexts"][0]["context"]["namespace"] = namespace
    path.write_text(yaml.safe_dump(kubeconfig))
    return path


def helm(config: Path, namespace: str, verb: str, *words: str) -> str:
    """Run helm, which must succeed, and return its output."""
    command = [HELM, verb, CHART, *words, f"--namespace={namespace}", f"--kubeconfig={config}"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def install(config: Path, namespace: str, verb: str = "install", **values: Any) -> str:
    """Install or upgrade the operator's chart."""
    path = config.with_name("values.yaml")
    path.write_text(yaml.safe_dump(values))
    return helm(config, namespace, verb, str(CHARTS / CHART), f"--values={path}", "--take-ownership")


@pytest.mark.parametrize("scenario", SCENARIOS, ids=name)
def test_the_api_server_accepts_every_object_and_the_restricted_profile_every_pod(
    restricted: str, config: Path, scenario: Path
):
    rendered = template(scenario.parents[1].name, namespace=restricted, file=scenario)
    command = [f"{BINARIES}/kubectl", f"--kubeconfig={config}", "apply", "--server-side"]
    command += ["--dry-run=server", "--validate=strict", "--force-conflicts", "--filename=-"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, input=rendered)
    assert done.returncode == 0, done.stderr
    assert "would violate" not in done.stderr
    assert len(done.stdout.splitlines()) == sum(bool(document) for document in yaml.safe_load_all(rendered))


class Released:
    """A release of the operator's chart, and its container run here as a process."""

    def __init__(self, api: Api, namespace: str, folder: Path, values: dict[str, Any]) -> None:
        manifests = render(CHART, namespace=namespace, values=values)
        pod = one(manifests, "Deployment")["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{pod['serviceAccountName']}/token"
        answer = api.request("POST", path, {"spec": {"expirationSeconds": 3600}})
        own = folder / "kubeconfig"
        own.write_text(yaml.safe_dump(kubeconfig_of(api.url, api.certificate, answer["status"]["token"])))
        settings = folder / "settings.yaml"
        settings.write_text(one(manifests, "ConfigMap")["data"]["settings.yaml"])
        self.log = folder / "operator.log"
        self.token: str = answer["status"]["token"]
        self.check = one(manifests, "Pod")["spec"]["containers"][0]
        self._command = [sys.executable, *container["command"][1:], *container["args"]]
        variables = {variable["name"]: variable["value"] for variable in container["env"]}
        variables["PYTHONPATH"] = os.pathsep.join(sys.path)  # of the code that is tested
        self._environment = variables | {"KUBECONFIG": str(own), "K2_OPERATOR_SETTINGS": str(settings)}

    @contextmanager
    def run(self) -> Iterator[None]:
        """Run the container's command with the container's environment."""
        with running(self.log, self._command, env=self._environment):
            yield

    def probe(self) -> subprocess.CompletedProcess[str]:
        """Run the `helm test` command on this machine."""
        words = [word.replace(f"http://{CHART}:", "http://127.0.0.1:") for word in self.check["args"]]
        return subprocess.run([sys.executable, "-c", *words], check=False, capture_output=True, text=True)

    def complaints(self) -> list[str]:
        """Return the operator's log lines above level info."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [
            str(line) for line in lines if line.get("level", line.get("severity", "")).lower() not in {"info", "debug"}
        ]


def ports() -> dict[str, Any]:
    """Return chart values with free ports of this machine."""
    return {"healthPort": free_port(), "metrics": {"port": free_port()}}


@pytest.fixture
def released(api: Api, restricted: str, config: Path, tmp_path: Path) -> Released:
    """The chart, installed by helm."""
    values = {**ports(), "logLevel": "debug"}
    assert "kubectl get feeds" in install(config, restricted, **values)
    return Released(api, restricted, tmp_path, values)


def everything(api: Api, namespace: str) -> set[str]:
    """Return the kinds of a feed's children."""
    kinds = {kind for kind, _ in children(api, namespace, "spot")}
    for kind, path in OTHERS.items():
        if api.request("GET", f"{path.format(namespace)}?labelSelector={FEED}%3Dspot")["items"]:
            kinds.add(kind)
    return kinds


def event_reasons(api: Api, namespace: str) -> set[str]:
    """Return the reasons of a namespace's Events."""
    return {event["reason"] for event in api.request("GET", f"/api/v1/namespaces/{namespace}/events")["items"]}


def test_with_the_charts_rbac_the_operator_creates_repairs_and_releases_a_feed(
    api: Api, restricted: str, released: Released
):
    create(api, restricted, feed("spot", ["BTCUSDT"]))
    deployment = f"/apis/apps/v1/namespaces/{restricted}/deployments/spot-shard-0-0"
    with released.run():
        eventually(lambda: reconciled(api, restricted, "spot"))
        assert everything(api, restricted) >= {*OTHERS, "Deployment", "Service", "ConfigMap", "NetworkPolicy"}
        assert "Forbidden" not in json.dumps(status(api, restricted, "spot"))
        create(api, restricted, feed("twin", ["BTCUSDT"]))
        eventually(lambda: "TopicConflict" in event_reasons(api, restricted))
        uid = api.request("GET", deployment)["metadata"]["uid"]
        api.request("DELETE", deployment)
        eventually(lambda: api.request("GET", deployment)["metadata"].get("uid", uid) != uid)
        probed = released.probe()
        assert probed.returncode == 0, probed.stderr
        assert probed.stdout.count(" 200 ") == 2
        api.request("DELETE", api.feed(restricted, "spot"))
        eventually(lambda: api.request("GET", api.feed(restricted, "spot"))["kind"] == "Status")
    assert not [line for line in released.complaints() if " 403" in line or "forbidden" in line.lower()]


def test_topics_are_created_and_observed_in_the_namespace_that_strimzi_watches(
    api: Api, restricted: str, config: Path, tmp_path: Path
):
    elsewhere = f"{restricted}-kafka"
    api.request("POST", "/api/v1/namespaces", {"metadata": {"name": elsewhere}})
    values = {**ports(), "resync": 2, "settings": {"kafkaNamespace": elsewhere}}
    install(config, restricted, **values)
    create(api, restricted, feed("spot", ["BTCUSDT"]))
    topics = OTHERS["KafkaTopic"].format(elsewhere)

    def topic_ready() -> Any:
        conditions = status(api, restricted, "spot").get("conditions", ())
        return next((about["status"] for about in conditions if about["type"] == "TopicReady"), "")

    with Released(api, restricted, tmp_path, values).run():
        eventually(lambda: topic_ready() == "Unknown")
        for topic in api.request("GET", topics)["items"]:
            about = topic["metadata"]
            topic_status = {
                "observedGeneration": about["generation"],
                "conditions": [{"type": "Ready", "status": "True"}],
            }
            path = f"{topics}/{about['name']}/status"
            api.request("PATCH", path, {"status": topic_status}, "application/merge-patch+json")
        eventually(lambda: topic_ready() == "True")


def test_only_feeds_of_the_listed_namespaces_are_reconciled(api: Api, restricted: str, config: Path, tmp_path: Path):
    others = [f"{restricted}-{name}" for name in ("one", "two")]
    for other in others:
        api.request("POST", "/api/v1/namespaces", {"metadata": {"name": other}})
    values = {**ports(), "feedNamespaces": others}
    install(config, restricted, **values)
    own, one, two = feed("own", ["BTCUSDT"]), feed("one", ["BTC/USD"], "kraken"), feed("two", ["BTC-USD"], "coinbase")
    for space, body in zip((restricted, *others), (own, one, two), strict=True):
        create(api, space, body)
    with Released(api, restricted, tmp_path, values).run():
        for space, name in zip(others, ("one", "two"), strict=True):
            eventually(lambda space=space, name=name: reconciled(api, space, name))
            assert children(api, space, name)
    assert status(api, restricted, "own") == {}
    assert children(api, restricted, "own") == {}


def test_the_probe_of_helm_test_fails_where_no_operator_answers(released: Released):
    assert released.probe().returncode != 0


def documented(heading: str) -> set[tuple[str, str, str]]:
    """Return the permissions under a heading of the documentation: group, resource, verb."""
    text = RIGHTS.read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0].partition("<!--")[0]
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if "`" in line]
    return {
        ("" if group == "core" else group, resource, verb)
        for group, resources, verbs in rows
        for resource in re.findall("`(.+?)`", resources)
        for verb in re.findall("`(.+?)`", verbs)
    }


def allowed(api: Api, token: str, namespace: str) -> set[tuple[str, str, str]]:
    """Return the permissions of a token according to the API server, without those of every user."""
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": namespace}}
    request = urllib.request.Request(
        f"{api.url}/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30, context=api.trust()) as answer:
        rules = json.load(answer)["status"]["resourceRules"]
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        if group not in {"authorization.k8s.io", "authentication.k8s.io"}
    }


def test_the_operator_has_exactly_the_documented_rbac(api: Api, restricted: str, released: Released):
    own, lease, everywhere = (
        documented("The operator, in each feed namespace"),
        documented("The operator, in its own namespace"),
        documented("The operator, cluster-wide"),
    )
    assert ("apps", "deployments", "patch") in own
    assert allowed(api, released.token, restricted) == own | lease | everywhere
    assert allowed(api, released.token, "default") == everywhere
    assert not [right for right in own | everywhere if right[1] == "pods/exec" or "*" in right]
    assert [right for right in own | everywhere if right[1] == "secrets"] == [("", "secrets", "get")]


def test_a_driver_has_exactly_the_documented_rbac(api: Api, restricted: str, released: Released):
    path = f"/api/v1/namespaces/{restricted}/serviceaccounts/k2-spark/token"
    token = api.request("POST", path, {"spec": {"expirationSeconds": 3600}})["status"]["token"]
    assert allowed(api, token, restricted) == documented("Spark drivers, in their namespace")
    assert allowed(api, token, "default") == set()


def test_uninstalling_a_release_leaves_only_the_crd_and_the_feeds(api: Api, restricted: str, config: Path):
    install(config, restricted)
    create(api, restricted, feed("spot", ["BTCUSDT"]))
    install(config, restricted, "upgrade", settings={"s3Region": "eu-west-1"})
    config_map = api.request("GET", f"/api/v1/namespaces/{restricted}/configmaps/{CHART}")
    assert "eu-west-1" in config_map["data"]["settings.yaml"]
    helm(config, restricted, "uninstall")
    for kind in ("configmaps", "services", "serviceaccounts"):
        assert api.request("GET", f"/api/v1/namespaces/{restricted}/{kind}")["items"] == []
    assert api.request("GET", api.feed(restricted, "spot"))["kind"] == "ExchangeFeed"
    rbac = api.request("GET", "/apis/rbac.authorization.k8s.io/v1/clusterroles")["items"]
    assert not [role for role in rbac if restricted in role["metadata"]["name"]]
