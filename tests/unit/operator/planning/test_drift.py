"""Drift between a manifest and the live object, to which the API server has added defaults."""

import copy

import pytest

from k2.operator.desired import children
from k2.operator.planning.drift import differs

DEFAULTS = {"terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}


@pytest.fixture
def desired(manifests):
    return manifests("Deployment", ingest={"resources": {"limits": {"cpu": "1", "memory": "1Gi"}}})[0]


@pytest.fixture
def live(desired):
    """The Deployment as the API server returns it."""
    answer = copy.deepcopy(desired)
    answer["metadata"] |= {
        "uid": "u",
        "resourceVersion": "7",
        "generation": 2,
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
    answer["metadata"]["annotations"] = {"deployment.kubernetes.io/revision": "1"}
    answer["metadata"]["labels"]["theirs"] = "yes"
    answer["spec"]["progressDeadlineSeconds"] = 600
    pod = answer["spec"]["template"]["spec"]
    pod |= {"dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "schedulerName": "default-scheduler"}
    pod["volumes"][0]["configMap"]["defaultMode"] = 420
    pod["containers"][0] |= DEFAULTS
    pod["containers"][0]["livenessProbe"] |= {"successThreshold": 1}
    pod["containers"][0]["resources"]["limits"] = {"cpu": "1000m", "memory": "1024Mi"}
    answer["status"] = {"readyReplicas": 1}
    return answer


def container(deployment):
    return deployment["spec"]["template"]["spec"]["containers"][0]


def test_fields_that_the_api_server_adds_are_no_difference(desired, live):
    assert not differs(desired, live)


def test_a_sidecar_and_another_managers_variable_are_no_difference(desired, live):
    live["spec"]["template"]["spec"]["containers"].insert(0, {"name": "proxy", "image": "mesh:1"})
    live["spec"]["template"]["spec"]["containers"][1]["env"].insert(0, {"name": "HTTP_PROXY", "value": "x"})
    live["spec"]["template"]["spec"]["volumes"].append({"name": "more", "emptyDir": {}})
    assert not differs(desired, live)


@pytest.mark.parametrize(
    "edit",
    [
        lambda live: live["spec"].update(replicas=5),
        lambda live: live["metadata"]["labels"].update({"k2.marketdata.io/feed": "other"}),
        lambda live: live["metadata"]["labels"].pop("k2.marketdata.io/feed"),
        lambda live: container(live).update(image="other:1"),
        lambda live: container(live)["args"].append("--max-attempts=1"),
        lambda live: container(live)["args"].reverse(),
        lambda live: container(live)["env"].pop(),
        lambda live: container(live)["env"][0].update(value="elsewhere:9092"),
        lambda live: container(live)["resources"]["limits"].update(memory="2Gi"),
        lambda live: container(live)["resources"].pop("requests"),
        lambda live: container(live)["securityContext"]["capabilities"].update(drop=[]),
        lambda live: container(live)["securityContext"].update(readOnlyRootFilesystem=False),
        lambda live: container(live)["volumeMounts"][0].update(mountPath="/elsewhere"),
        lambda live: live["spec"]["template"]["metadata"]["annotations"].clear(),
        lambda live: live["spec"].pop("template"),
    ],
)
def test_a_manual_edit_of_an_owned_field_is_a_difference(desired, live, edit):
    edit(live)
    assert differs(desired, live)


def managed_by_us(fields):
    return [{"manager": "k2-operator", "operation": "Apply", "fieldsV1": fields}]


ENV = {"f:spec": {"f:template": {"f:spec": {"f:containers": {'k:{"name":"ingest"}': {"f:env": {}}}}}}}


def env(*names):
    fields = copy.deepcopy(ENV)
    below = {f'k:{{"name":"{name}"}}': {".": {}, "f:name": {}, "f:value": {}} for name in names}
    fields["f:spec"]["f:template"]["f:spec"]["f:containers"]['k:{"name":"ingest"}']["f:env"] = below
    return fields


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (env("K2_LOG_LEVEL"), False),
        (env("K2_LOG_LEVEL", "K2_GONE"), True),
        ({"f:spec": {"f:replicas": {}}}, False),
        ({"f:spec": {"f:paused": {}}}, True),
        ({"f:metadata": {"f:annotations": {".": {}, "f:old": {}}}}, True),
        ({"f:metadata": {"f:labels": {"f:k2.marketdata.io/feed": {}}}}, False),
        ({"f:status": {"f:readyReplicas": {}}}, False),
    ],
)
def test_an_owned_field_that_is_no_longer_desired_is_a_difference(desired, live, fields, expected):
    live["metadata"]["managedFields"] = managed_by_us(fields)
    assert differs(desired, live) is expected


def test_fields_of_other_managers_are_ignored(desired, live):
    theirs = {"manager": "kubectl-edit", "operation": "Update", "fieldsV1": {"f:spec": {"f:paused": {}}}}
    status = {
        "manager": "k2-operator",
        "operation": "Apply",
        "subresource": "status",
        "fieldsV1": {"f:spec": {"f:x": {}}},
    }
    live["metadata"]["managedFields"] = [theirs, status]
    assert not differs(desired, live)


@pytest.mark.parametrize("protocol", [{}, {"protocol": "TCP"}])
def test_a_port_is_matched_by_its_number_and_explicit_or_default_protocol(desired, live, protocol):
    container(desired)["ports"] = [{"name": "metrics", "containerPort": 9101} | protocol]
    ports = {'k:{"containerPort":9101,"protocol":"TCP"}': {".": {}, "f:containerPort": {}, "f:name": {}}}
    inner = {'k:{"name":"ingest"}': {"f:ports": ports}}
    live["metadata"]["managedFields"] = managed_by_us({"f:spec": {"f:template": {"f:spec": {"f:containers": inner}}}})
    assert not differs(desired, live)


def test_a_volume_that_is_mounted_twice_is_matched_by_its_mount_path(desired, live):
    twice = [{"name": "feed", "mountPath": "/one"}, {"name": "feed", "mountPath": "/two"}]
    container(desired)["volumeMounts"], container(live)["volumeMounts"] = twice, twice[::-1]
    assert not differs(desired, live)
    container(live)["volumeMounts"] = [twice[0], twice[0]]
    assert differs(desired, live)


def test_no_child_differs_from_itself(feed, settings):
    for manifest in children(feed(), settings()):
        assert not differs(manifest, copy.deepcopy(manifest))


def test_empty_fields_that_the_api_server_drops_are_no_difference():
    desired = {"metadata": {"name": "a"}, "spec": {"nodeSelector": {}, "tolerations": [], "text": ""}}
    assert not differs(desired, {"metadata": {"name": "a"}, "spec": {}})
    assert differs(desired, {"metadata": {"name": "a"}, "spec": {"tolerations": [{"key": "x"}]}})
    assert differs({"metadata": {}, "spec": {"on": False}}, {"metadata": {}, "spec": {"on": 0}})
