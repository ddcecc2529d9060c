"""The Job of a rebuild, and what does not run beside it."""

import pytest

from k2.operator.desired import children
from k2.operator.desired.jobs.rebuild import rebuild_job
from tests.unit.operator.conftest import by_name


def test_the_job_builds_silver_and_gold_again_and_has_the_number_in_its_name(feed, settings):
    manifest = rebuild_job(feed(rebuildNonce=3), settings())
    pod = manifest["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert manifest["metadata"]["name"] == "binance-rebuild-3"
    assert manifest["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"] == "rebuild"
    assert container["command"] == ["python", "-m", "k2.jobs.rebuild", "silver"]
    assert container["args"] == ["--feed", "/etc/k2/feed.yaml", "--memory", "921m"]
    assert (pod["restartPolicy"], manifest["spec"]["backoffLimit"]) == ("Never", 2)
    assert "activeDeadlineSeconds" not in manifest["spec"]


@pytest.mark.parametrize(
    ("topology", "suspended"),
    [("PerLayer", {"bronze": False, "silver": True, "gold": True}), ("Combined", {"layers": True})],
)
def test_what_writes_silver_and_gold_is_suspended_and_everything_else_goes_on(feed, settings, topology, suspended):
    one = feed(rebuildNonce=3, layers={"topology": topology})
    usual, stopped = (by_name(children(one, settings(), rebuilding=is_due)) for is_due in (False, True))
    assert usual.keys() == stopped.keys()
    assert {
        name.partition("/binance-")[2]: manifest["spec"]["suspend"]
        for name, manifest in stopped.items()
        if manifest["kind"] == "SparkApplication"
    } == suspended
    others = [name for name in usual if not name.startswith("SparkApplication/")]
    assert [usual[name] for name in others] == [stopped[name] for name in others]
    begun = by_name(children(one, settings(), rebuilding=True, rebuilds=True))
    assert begun.keys() - stopped.keys() == {"Job/binance-rebuild-3"}


def test_another_number_restarts_no_pod(feed, settings):
    assert children(feed(rebuildNonce=3), settings()) == children(feed(), settings())
