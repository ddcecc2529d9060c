"""The latest audit that Gold's driver reports appears in the feed's status."""

from collections.abc import Callable

import pytest
from aiohttp import web

from tests.apiserver.support.servers import Api, Operator, eventually
from tests.apiserver.test_layers import Cluster, running
from tests.apiserver.test_operator import status

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(180)]


@pytest.fixture
def api(whole_api: Api) -> Api:
    return whole_api


@pytest.fixture
def cluster(api: Api, namespace: str, serve: Callable[[web.Application], str]) -> Cluster:
    return Cluster(api, namespace, serve)


def _gold(cluster: Cluster, hours: int) -> None:
    cluster.layers["gold"]["audit"] = {"incompleteHours": hours, "checkedAt": "2026-03-02T10:00:00+00:00"}


def test_incomplete_hours_degrade_gold_until_an_audit_finds_them_complete(
    api: Api, namespace: str, operator: Operator, cluster: Cluster
):
    with cluster.ready(operator, K2_OPERATOR_RESYNC="1"):
        _gold(cluster, 2)
        eventually(lambda: status(api, namespace, "spot")["phase"] == "Degraded")
        degraded = status(api, namespace, "spot")
        assert degraded["layers"]["audit"] == {"incompleteHours": 2, "checkedAt": "2026-03-02T10:00:00+00:00"}
        reasons = {about["type"]: about["reason"] for about in degraded["conditions"]}
        assert (reasons["GoldReady"], reasons["SilverReady"]) == ("AuditFindings", "Ready")
        _gold(cluster, 0)
        eventually(lambda: running(api, namespace))
