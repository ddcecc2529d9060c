"""All manifests of a feed: deterministic, valid, and changed only by related changes of the spec."""

import json
import os
import random
import subprocess
import sys
from typing import Any

import pytest
from kubeflow_spark_api.models import IoK8sApiCoreV1PodTemplateSpec, SparkV1beta2SparkApplication

from k2.operator.desired import children

SYMBOLS = [f"COIN{number}USDT" for number in range(12)]


def pods(manifests) -> list[dict[str, Any]]:
    """Return every pod template."""
    templates = []
    for manifest in manifests:
        spec = manifest.get("spec", {})
        if manifest["kind"] == "Deployment":
            templates.append(spec["template"])
        elif manifest["kind"] == "SparkApplication":
            templates += [spec["driver"]["template"], spec["executor"]["template"]]
    return templates


def changed(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    return {name for name in before | after if before.get(name) != after.get(name)}


@pytest.mark.parametrize("topology", ["PerLayer", "Combined"])
def test_a_feed_has_exactly_these_children(manifests_by_name, topology):
    layers = ["bronze", "silver", "gold"] if topology == "PerLayer" else ["layers"]
    assert set(manifests_by_name(layers={"topology": topology})) == {
        "KafkaTopic/market.crypto.trades.binance",
        "KafkaTopic/market.crypto.gaps.binance",
        "KafkaTopic/market.crypto.deadletter.binance",
        "KafkaTopic/market.crypto.evidence.binance",
        "KafkaTopic/market.crypto.instruments.binance",
        "ConfigMap/binance-feed",
        "Service/binance",
        "PodMonitor/binance",
        "NetworkPolicy/binance-ingest",
        "NetworkPolicy/binance-jobs",
        "PodDisruptionBudget/binance-ingest",
        "Deployment/binance-shard-0-0",
        *(f"SparkApplication/binance-{layer}" for layer in layers),
    }


def test_two_processes_make_the_same_manifests(feed, settings, manifests_by_name):
    script = (
        "import sys, json; from k2.operator.desired import children; from k2.operator.settings import Settings;"
        "from k2.schemas.feed.model import ExchangeFeed; body, given = json.load(sys.stdin);"
        "print(json.dumps(children(ExchangeFeed.from_body(body), Settings.model_validate(given))))"
    )
    one, platform = feed(placement={"nodeSelector": {"b": "1", "a": "2"}}), settings(spark_conf={"b": "1", "a": "2"})
    stdin = json.dumps([one.model_dump(mode="json", by_alias=True), platform.model_dump(mode="json", by_alias=True)])
    outputs = [
        subprocess.run(
            [sys.executable, "-c", script],
            input=stdin,
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
        ).stdout
        for seed in ("1", "2")
    ]
    assert outputs[0] == outputs[1]
    assert json.loads(outputs[0]) == json.loads(json.dumps(children(one, platform)))


def test_the_order_in_which_symbols_are_written_rolls_nothing(feed, settings, manifests_by_name):
    shuffled = random.Random(1).sample(SYMBOLS, len(SYMBOLS))
    before, after = (
        manifests_by_name(symbols=SYMBOLS, ingest={"shards": 3}),
        manifests_by_name(symbols=shuffled, ingest={"shards": 3}),
    )
    assert changed(before, after) == {"ConfigMap/binance-feed"}


def test_added_and_removed_symbols_restart_no_pod(manifests_by_name):
    ingest = {"shards": 3, "redundancy": 2}
    before = manifests_by_name(symbols=SYMBOLS, ingest=ingest)
    for symbols in ([*SYMBOLS, "BTCUSDT"], SYMBOLS[1:]):
        assert changed(before, manifests_by_name(symbols=symbols, ingest=ingest)) == {"ConfigMap/binance-feed"}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"kafka": {"retention": "1h"}}, {"KafkaTopic/market.crypto.trades.binance"}),
        ({"kafka": {"partitions": 3}}, {"KafkaTopic/market.crypto.trades.binance"}),
        ({"deletionPolicy": "Delete"}, set()),
        ({"ingest": {"backfill": {"maxAge": "2h"}}}, {"Deployment/binance-shard-0-0"}),
        ({"ingest": {"resources": {"limits": {"memory": "1Gi"}}}}, {"Deployment/binance-shard-0-0"}),
        ({"ingest": {"redundancy": 2}}, {"Deployment/binance-shard-0-1"}),
        ({"layers": {"bronze": {"trigger": "5s"}}}, {"SparkApplication/binance-bronze"}),
        ({"layers": {"silver": {"trigger": "5s"}}}, {"SparkApplication/binance-silver"}),
        ({"layers": {"gold": {"trigger": "5s"}}}, {"SparkApplication/binance-gold"}),
        ({"layers": {"bronze": {"retention": "8d"}}}, {"SparkApplication/binance-gold"}),
        ({"layers": {"silver": {"executors": 2}}}, {"SparkApplication/binance-silver"}),
    ],
)
def test_a_change_affects_related_manifests_only(manifests_by_name, change, expected):
    assert changed(manifests_by_name(), manifests_by_name(**change)) - {"ConfigMap/binance-feed"} == expected


def test_suspending_changes_no_config_and_no_topic(manifests_by_name):
    assert changed(manifests_by_name(), manifests_by_name(suspend=True)) == {
        "Deployment/binance-shard-0-0",
        "SparkApplication/binance-bronze",
        "SparkApplication/binance-silver",
        "SparkApplication/binance-gold",
    }


def test_another_shard_count_restarts_no_pod_that_stays(manifests_by_name):
    before = manifests_by_name(symbols=SYMBOLS, ingest={"shards": 3})
    after = manifests_by_name(symbols=SYMBOLS, ingest={"shards": 4})
    assert changed(before, after) == {"ConfigMap/binance-feed", "Deployment/binance-shard-3-0"}


@pytest.mark.parametrize("executors", [0, 2])
@pytest.mark.parametrize("topology", ["PerLayer", "Combined"])
def test_spark_applications_have_no_unknown_fields(manifests, topology, executors):
    layers = {"topology": topology} | {layer: {"executors": executors} for layer in ("bronze", "silver", "gold")}
    for manifest in manifests("SparkApplication", layers=layers, platform={"image_pull_secrets": ("pull",)}):
        assert SparkV1beta2SparkApplication.from_dict(manifest).to_dict() == manifest


def test_pod_templates_have_no_unknown_fields(feed, settings):
    placed = {
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "market", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}},
        "priorityClassName": "high",
    }
    templates = pods(children(feed(placement=placed), settings(image_pull_secrets=("pull",))))
    assert len(templates) == 7
    for template in templates:
        assert IoK8sApiCoreV1PodTemplateSpec.from_dict(template).to_dict() == template


def test_every_pod_meets_the_restricted_profile(feed, settings):
    for template in pods(children(feed(), settings())):
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        writable = {volume["name"] for volume in spec["volumes"] if "emptyDir" in volume}
        for container in spec["containers"]:
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["readOnlyRootFilesystem"] is True
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] in writable}
            names = [variable["name"] for variable in container["env"]]
            assert len(names) == len(set(names))


def test_secrets_are_referenced_and_never_in_arguments_annotations_or_spark_conf(manifests):
    for manifest in manifests("SparkApplication"):
        spec = manifest["spec"]
        variables = {entry["name"]: entry for entry in spec["driver"]["template"]["spec"]["containers"][0]["env"]}
        references = {
            name: entry["valueFrom"]["secretKeyRef"] for name, entry in variables.items() if "valueFrom" in entry
        }
        assert references == {
            "K2_CATALOG_USER": {"name": "k2-catalog", "key": "username"},
            "K2_CATALOG_PASSWORD": {"name": "k2-catalog", "key": "password"},
            "AWS_ACCESS_KEY_ID": {"name": "k2-s3", "key": "access-key"},
            "AWS_SECRET_ACCESS_KEY": {"name": "k2-s3", "key": "secret-key"},
        }
        public = json.dumps([spec["arguments"], spec["sparkConf"], spec["driver"]["annotations"]])
        assert "k2-s3" not in public
        assert "k2-catalog" not in public


def test_the_longest_name_fits_every_object_and_label(feed, settings):
    long = feed("a" * 40, symbols=[f"COIN{number}USDT" for number in range(900)], ingest={"shards": 64})
    for manifest in children(long, settings()):
        limit = 253 if manifest["kind"] in {"KafkaTopic", "ConfigMap"} else 63
        suffix = len("-driver-svc") if manifest["kind"] == "SparkApplication" else 0
        assert len(manifest["metadata"]["name"]) + suffix <= limit
        assert all(len(value) <= 63 for value in manifest["metadata"]["labels"].values())


def test_no_manifest_has_a_version_that_an_upgrade_would_roll(feed, settings):
    for manifest in children(feed(), settings()):
        assert "app.kubernetes.io/version" not in json.dumps(manifest)


def test_no_child_has_the_label_by_which_argo_cd_prunes(manifests_by_name):
    for name, manifest in manifests_by_name(ingest={"redundancy": 2}).items():
        assert "app.kubernetes.io/instance" not in json.dumps(manifest), name
