"""The API server itself rejects an invalid feed, with a message that says what to change."""

import pytest

from tests.apiserver.support.servers import Api
from tests.crd_cases import CASES, UPDATES, Case, Update

pytestmark = pytest.mark.apiserver

FEEDS = "/apis/k2.marketdata.io/v1alpha1/namespaces/default/exchangefeeds"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_feed_is_accepted_or_rejected_with_its_message(api: Api, case: Case):
    answer = api.request("POST", f"{FEEDS}?dryRun=All&fieldValidation=Strict", case.object)
    if case.refused is None:
        assert answer["kind"] == "ExchangeFeed", answer["message"]
    else:
        assert answer["kind"] == "Status"
        assert case.refused in answer["message"]


@pytest.mark.parametrize("update", UPDATES, ids=lambda update: update.name)
def test_a_change_is_accepted_or_rejected_with_its_message(api: Api, update: Update):
    created = api.request("POST", FEEDS, update.before)
    assert created["kind"] == "ExchangeFeed", created
    name, version = created["metadata"]["name"], created["metadata"]["resourceVersion"]
    try:
        after = {**update.after, "metadata": {**update.after["metadata"], "resourceVersion": version}}
        answer = api.request("PUT", f"{FEEDS}/{name}?dryRun=All&fieldValidation=Strict", after)
        if update.refused is None:
            assert answer["kind"] == "ExchangeFeed", answer["message"]
        else:
            assert update.refused in answer["message"]
    finally:
        api.request("DELETE", f"{FEEDS}/{name}")


def test_a_stored_feed_is_complete(api: Api):
    body = {
        "apiVersion": "k2.marketdata.io/v1alpha1",
        "kind": "ExchangeFeed",
        "metadata": {"name": "small"},
        "spec": {"exchange": "okx", "symbols": ["BTC-USDT"]},
    }
    stored = api.request("POST", f"{FEEDS}?dryRun=All", body)["spec"]
    resources = {"requests": {}, "limits": {}}
    assert stored["layers"]["bronze"] == {"trigger": "10s", "retention": "7d", "executors": 1, "resources": resources}
    assert stored["ingest"]["backfill"] == {"enabled": True, "maxAge": "7d", "maxIds": 0}
    assert stored["kafka"] == {"topic": "", "partitions": 0, "retention": "168h"}
    assert (stored["suspend"], stored["deletionPolicy"]) == (False, "Retain")


def test_the_printed_columns_are_those_of_kubectl_get_feeds(api: Api):
    definition = api.request(
        "GET", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/exchangefeeds.k2.marketdata.io"
    )
    columns = definition["spec"]["versions"][0]["additionalPrinterColumns"]
    shown = [column["name"].upper() for column in columns if not column.get("priority")]
    assert shown == ["EXCHANGE", "SYMBOLS", "PHASE", "RATE", "FRESHNESS", "GAPS", "AGE"]
    accepted = {about["type"]: about["status"] for about in definition["status"]["conditions"]}
    assert accepted["NamesAccepted"] == accepted["Established"] == "True"
    assert not any(about["type"] == "NonStructuralSchema" for about in definition["status"]["conditions"])
