"""Encoding of cached objects."""

from k2.operator.api.object_codec import pack, unpack

OURS = {"manager": "k2-operator", "operation": "Apply", "fieldsV1": {"f:spec": {"f:replicas": {}}}}
THEIRS = {"manager": "kube-controller-manager", "operation": "Update", "fieldsV1": {"f:status": {}}}


def test_an_object_round_trips_without_other_managers_fields():
    live = {
        "kind": "Deployment",
        "metadata": {"name": "spot", "managedFields": [THEIRS, OURS]},
        "spec": {"x": [1, 0.5]},
    }
    assert unpack(pack(live)) == {**live, "metadata": {"name": "spot", "managedFields": [OURS]}}


def test_equal_objects_are_equal_when_packed():
    one = {"metadata": {"name": "spot", "labels": {"a": "b"}}, "status": None}
    assert pack(one) == pack({"metadata": {"name": "spot", "labels": {"a": "b"}}, "status": None})
    assert pack(one) != pack({**one, "status": {}})
