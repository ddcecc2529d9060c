"""Placement and what the platform adds to pods, over every pod of a feed."""

import pytest

from k2.operator.desired import children
from k2.operator.desired.jobs.purge import purge_job

TOLERATION = {"key": "dedicated", "operator": "Equal", "value": "k2", "effect": "NoSchedule"}
AFFINITY = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}}
PLACED = {
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [TOLERATION],
    "affinity": AFFINITY,
    "priorityClassName": "high",
}
SPREAD = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}


@pytest.fixture
def all_pods(feed, settings):
    """Build labels, annotations and spec of every pod of a feed, by role."""

    def build(platform=None, **spec):
        one, given = feed(**spec), settings(**(platform or {}))
        pods = {}
        for manifest in (*children(one, given), purge_job(one, given, exchange=True)):
            match manifest["kind"]:
                case "Deployment" | "Job":
                    template = manifest["spec"]["template"]
                    about = template["metadata"]
                    pods[manifest["kind"]] = (about["labels"], about.get("annotations", {}), template["spec"])
                case "SparkApplication":
                    for role in ("driver", "executor"):
                        part = manifest["spec"][role]
                        # The Spark operator copies the application's labels to executors.
                        labels = (manifest["metadata"]["labels"] if role == "executor" else {}) | part["labels"]
                        name = f"{manifest['metadata']['name']}-{role}"
                        pods[name] = (labels, part.get("annotations", {}), part["template"]["spec"])
        assert len(pods) == 8  # ingest, purge, three drivers and their executors
        return pods

    return build


def test_the_platforms_placement_is_that_of_every_pod(all_pods):
    platform = {
        "node_selector": PLACED["nodeSelector"],
        "tolerations": (TOLERATION,),
        "affinity": AFFINITY,
        "priority_class_name": "high",
    }
    for _, _, pod in all_pods(platform).values():
        assert {name: pod[name] for name in PLACED} == PLACED


def test_a_field_of_the_feeds_placement_replaces_the_platforms_on_every_pod(all_pods):
    platform = {"node_selector": {"pool": "any"}, "tolerations": ({"key": "other"},), "priority_class_name": "low"}
    given = {"tolerations": [TOLERATION], "priorityClassName": "high"}
    for _, _, pod in all_pods(platform, placement=given).values():
        assert {name: pod[name] for name in given} == given
        assert pod["nodeSelector"] == {"pool": "any"}
        assert "affinity" not in pod


def test_a_constraint_without_a_selector_spreads_the_pods_of_one_component(all_pods):
    pods = all_pods({"topology_spread_constraints": (SPREAD,)})
    selectors = []
    for labels, _, pod in pods.values():
        (constraint,) = pod["topologySpreadConstraints"]
        matched = constraint.pop("labelSelector")["matchLabels"]
        assert constraint == SPREAD
        assert matched.items() <= labels.items()
        selectors.append(matched)
    # No selector matches the pods of another component.
    for selector in selectors:
        assert sum(selector.items() <= labels.items() for labels, _, _ in pods.values()) == 1
    own = SPREAD | {"labelSelector": {"matchLabels": {"app": "all"}}}
    for _, _, pod in all_pods(placement={"topologySpreadConstraints": [own]}).values():
        assert pod["topologySpreadConstraints"] == [own]


def test_every_pod_has_the_platforms_labels_variables_and_volumes(all_pods):
    volume, mount = {"name": "truststore", "secret": {"secretName": "t"}}, {"name": "truststore", "mountPath": "/etc/t"}
    platform = {
        "pod_labels": {"team": "market"},
        "pod_annotations": {"example.com/owner": "us"},
        "extra_env": ({"name": "JAVA_TOOL_OPTIONS", "value": "-Xss2m"}, {"name": "AWS_REGION", "value": "eu-west-1"}),
        "extra_volumes": (volume,),
        "extra_volume_mounts": (mount,),
        "ca_config_map": "authorities",
    }
    for labels, annotations, pod in all_pods(platform).values():
        assert labels["team"] == "market"
        assert annotations["example.com/owner"] == "us"
        (container,) = pod["containers"]
        names = [variable["name"] for variable in container["env"]]
        assert len(names) == len(set(names))
        variables = {variable["name"]: variable.get("value") for variable in container["env"]}
        assert (variables["JAVA_TOOL_OPTIONS"], variables["AWS_REGION"]) == ("-Xss2m", "eu-west-1")
        assert variables["SSL_CERT_FILE"] == "/etc/k2-ca/ca.crt"
        assert volume in pod["volumes"]
        assert mount in container["volumeMounts"]
        assert {"name": "ca", "configMap": {"name": "authorities"}} in pod["volumes"]


def test_security_contexts_can_be_replaced_and_ids_left_to_the_cluster(all_pods):
    for _, _, pod in all_pods({"fixed_user_ids": False}).values():
        assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    platform = {"pod_security_context": {"runAsUser": 7, "fsGroup": None}, "container_security_context": {}}
    for _, _, pod in all_pods(platform).values():
        assert pod["securityContext"]["runAsUser"] == 7
        assert {"runAsNonRoot", "fsGroup"} & set(pod["securityContext"]) == set()
        assert pod["containers"][0]["securityContext"] == {}
