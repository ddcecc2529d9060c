"""What a feed's pods read at their start, and the digests of it in their annotations."""

import json

import pytest

from k2.operator.api.input_reader import digest_of
from k2.operator.desired import children
from k2.operator.desired.naming import SPEC_HASH
from k2.operator.planning.inputs import INPUTS, Reference, references, with_inputs
from tests.unit.operator.conftest import SCRAM

S3, CATALOG, CA = Reference("Secret", "k2-s3"), Reference("Secret", "k2-catalog"), Reference("ConfigMap", "ca")


@pytest.fixture
def used(feed, settings):
    def run(**platform):
        chosen = settings(**platform)
        return {
            manifest["metadata"]["name"]: references(manifest, feed(), chosen)
            for manifest in children(feed(), chosen)
            if manifest["kind"] in {"Deployment", "SparkApplication"}
        }

    return run


@pytest.fixture
def manifest(manifests):
    return {kind: manifests(kind)[0] for kind in ("Deployment", "SparkApplication")}


def test_the_ingest_uses_no_secret_and_layers_those_of_the_lake(used):
    names = used()
    assert names.pop("binance-shard-0-0") == frozenset()
    assert set(names.values()) == {frozenset({S3, CATALOG})}


def test_kafkas_secrets_and_the_feeds_file_are_followed_without_a_restart(used):
    assert used(**SCRAM) == used()


@pytest.mark.parametrize(
    "more",
    [
        {"ca_config_map": "ca"},
        {"extra_env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "ca", "key": "a"}}}]},
        {"extra_volumes": [{"name": "a", "projected": {"sources": [{"configMap": {"name": "ca"}}]}}]},
    ],
)
def test_what_the_platform_adds_to_pods_is_used_by_all(used, more):
    assert all(CA in names for names in used(**more).values())


def test_projected_secrets_and_volumes_are_used(used):
    volumes = [
        {"name": "a", "secret": {"secretName": "one"}},
        {"name": "b", "projected": {"sources": [{"secret": {"name": "two"}}]}},
    ]
    assert used(extra_volumes=volumes)["binance-shard-0-0"] == {Reference("Secret", "one"), Reference("Secret", "two")}


@pytest.mark.parametrize("kind", ["Deployment", "SparkApplication"])
def test_a_digest_is_in_the_pods_annotations_and_changes_the_spec(manifest, kind):
    one, two = (with_inputs(manifest[kind], frozenset({S3}), {S3: digest}, None) for digest in ("1", "2"))
    assert INPUTS not in json.dumps(manifest[kind])
    assert json.dumps(one["spec"]).replace('\\"1\\"', '\\"2\\"') == json.dumps(two["spec"])
    if kind == "SparkApplication":
        hashes = [raw["metadata"]["annotations"][SPEC_HASH] for raw in (manifest[kind], one, two)]
        assert len(set(hashes)) == 3


@pytest.mark.parametrize("kind", ["Deployment", "SparkApplication"])
def test_without_a_digest_that_of_the_live_object_stays(manifest, kind):
    live = with_inputs(manifest[kind], frozenset({S3, CATALOG}), {S3: "1", CATALOG: "1"}, None)
    assert with_inputs(manifest[kind], frozenset({S3, CATALOG}), {S3: "1"}, live) == live
    assert with_inputs(manifest[kind], frozenset({S3, CATALOG}), {}, None) == manifest[kind]


def test_an_edited_annotation_is_written_again(manifest):
    live = with_inputs(manifest["Deployment"], frozenset({S3}), {S3: "1"}, None)
    for edited in ("{", "[]"):
        live["spec"]["template"]["metadata"]["annotations"][INPUTS] = edited
        again = with_inputs(manifest["Deployment"], frozenset({S3}), {S3: "1"}, live)
        assert json.loads(again["spec"]["template"]["metadata"]["annotations"][INPUTS]) == {"Secret/k2-s3": "1"}


def test_a_digest_is_of_the_contents_only():
    raw = {"metadata": {"resourceVersion": "1", "labels": {"a": "1"}}, "data": {"key": "b25l"}}
    same = {"metadata": {"resourceVersion": "2"}, "data": {"key": "b25l"}}
    assert digest_of(raw, S3) == digest_of(same, S3) != digest_of(raw, CATALOG)
    assert digest_of(raw | {"data": {"key": "dHdv"}}, S3) != digest_of(raw, S3)
    assert digest_of({"metadata": {}, "binaryData": {"a": ""}}, CA) != digest_of({"metadata": {}}, CA)
