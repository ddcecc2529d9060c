"""The operator when it is killed, and when the API server or the network fails."""

import itertools
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.apiserver.support.proxy import Fault, Proxy, Request, proxied
from tests.apiserver.support.servers import Api, Operator, eventually
from tests.apiserver.test_operator import KINDS, children, create, feed, reconciled, status, versions

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(120)]

MERGE = "application/merge-patch+json"
DEPLOYMENT = "spot-shard-0-0"
EVERYTHING = {("Deployment", DEPLOYMENT), ("ConfigMap", "spot-feed")}


@pytest.fixture
def proxy(api: Api) -> Iterator[tuple[Proxy, str]]:
    """A proxy in front of the API server, and its URL."""
    with proxied(api) as proxy_and_url:
        yield proxy_and_url


@pytest.fixture
def behind(api: Api, proxy: tuple[Proxy, str], namespace: str, tmp_path: Path) -> tuple[Operator, Proxy]:
    """The operator behind a proxy."""
    return Operator(tmp_path / "behind", api, namespace, proxy[1]), proxy[0]


def live(api: Api, namespace: str, kind: str, name: str) -> dict[str, Any]:
    """Return a live object; a `Status` if it does not exist."""
    answer: dict[str, Any] = api.request("GET", f"{KINDS[kind].format(namespace)}/{name}")
    return answer


def complete(api: Api, namespace: str, name: str = "spot") -> bool:
    """Return whether a feed of one shard has all children and a current status."""
    return reconciled(api, namespace, name) and set(children(api, namespace, name)) >= EVERYTHING


def test_an_operator_killed_between_two_applies_completes_and_writes_nothing_twice(
    api: Api, namespace: str, behind: tuple[Operator, Proxy]
):
    operator, proxy = behind
    release = threading.Event()
    proxy.rule = lambda request: Fault(release=release) if request.is_apply and "budgets/" in request.path else None
    create(api, namespace, feed("spot", ["BTCUSDT"]))
    with operator.run() as process:
        eventually(lambda: any(kind == "PodDisruptionBudget" for kind, _ in children(api, namespace, "spot")))
        process.kill()
        process.wait(5)
    release.set()
    before = versions(children(api, namespace, "spot"))
    proxy.rule = lambda _: None
    with operator.run():
        eventually(lambda: complete(api, namespace))
        after = versions(children(api, namespace, "spot"))
    assert ("Deployment", DEPLOYMENT) not in before
    assert len(before) > 2
    assert {key: after[key] for key in before} == before


def test_of_three_edits_while_the_operator_was_down_only_the_last_is_applied_and_once(
    api: Api, namespace: str, behind: tuple[Operator, Proxy]
):
    operator, proxy = behind
    create(api, namespace, feed("spot", ["BTCUSDT"]))
    with operator.run():
        eventually(lambda: complete(api, namespace))
    generation = live(api, namespace, "Deployment", DEPLOYMENT)["metadata"]["generation"]
    proxy.requests.clear()
    for symbols in (["ETHUSDT"], ["SOLUSDT"], ["BTCUSDT", "ADAUSDT"]):
        api.request("PATCH", api.feed(namespace, "spot"), {"spec": {"symbols": symbols}}, MERGE)
    with operator.run():
        eventually(lambda: reconciled(api, namespace, "spot"))
        eventually(lambda: operator.rounds("spot") >= 2)
    about = live(api, namespace, "ConfigMap", "spot-feed")
    assert "ADAUSDT" in json.dumps(about["data"])
    assert "SOLUSDT" not in json.dumps(about["data"])
    assert (
        live(api, namespace, "Deployment", DEPLOYMENT)["metadata"]["generation"] == generation
    )  # pods follow the file
    applied = sorted(request.path.partition("?")[0].rpartition("/")[2] for request in proxy.applies())
    assert [name for name in applied if name in {DEPLOYMENT, "spot-feed"}] == ["spot-feed"]


def test_retry_after_is_obeyed_and_the_feed_converges(api: Api, namespace: str, behind: tuple[Operator, Proxy]):
    operator, proxy = behind
    proxy.rule = lambda request: (
        Fault(code=429, headers=(("Retry-After", "3"),)) if request.is_apply and len(proxy.applies()) < 2 else None
    )
    create(api, namespace, feed("spot", ["BTCUSDT"]))
    with operator.run():
        eventually(lambda: complete(api, namespace))
    at = [request.at for request in proxy.applies()]
    assert [later - earlier >= 3 for earlier, later in itertools.pairwise(at[:3])] == [True, True]


def test_an_outage_with_503_is_survived(api: Api, namespace: str, behind: tuple[Operator, Proxy]):
    operator, proxy = behind
    create(api, namespace, feed("spot", ["BTCUSDT"]))
    until = time.monotonic() + 10
    proxy.rule = lambda _: Fault(code=503) if time.monotonic() < until else None
    with operator.run() as process:
        eventually(lambda: complete(api, namespace), within=45)
        until = time.monotonic() + 6
        api.request("PATCH", api.feed(namespace, "spot"), {"spec": {"symbols": ["ETHUSDT"]}}, MERGE)
        eventually(lambda: "ETHUSDT" in json.dumps(live(api, namespace, "ConfigMap", "spot-feed")["data"]), within=30)
        eventually(lambda: reconciled(api, namespace, "spot"), within=30)
        assert process.poll() is None


def test_slow_and_lost_answers_cause_no_second_write(api: Api, namespace: str, behind: tuple[Operator, Proxy]):
    operator, proxy = behind

    def rule(request: Request) -> Fault | None:
        if not request.is_apply:
            return None
        return {0: Fault(delay=5), 1: Fault(lost=True)}.get(len(proxy.applies()))

    proxy.rule = rule
    create(api, namespace, feed("spot", ["BTCUSDT"]))
    with operator.run():
        eventually(lambda: complete(api, namespace), within=45)
        eventually(lambda: operator.rounds("spot"))
        first = versions(children(api, namespace, "spot"))
        time.sleep(2)
        assert versions(children(api, namespace, "spot")) == first
    generations = [item["metadata"].get("generation", 1) for item in children(api, namespace, "spot").values()]
    assert set(generations) == {1}


def test_a_watch_event_before_the_answer_causes_no_second_status(
    api: Api, namespace: str, behind: tuple[Operator, Proxy]
):
    operator, proxy = behind
    answered = threading.Event()
    proxy.rule = lambda request: (
        Fault(release=answered) if request.is_apply and "/deployments/" in request.path else None
    )
    create(api, namespace, feed("spot", ["BTCUSDT"]))
    with operator.run(K2_OPERATOR_RESYNC="2"):
        eventually(lambda: ("Deployment", DEPLOYMENT) in children(api, namespace, "spot"))
        time.sleep(1)  # for the watch event to arrive
        answered.set()
        eventually(lambda: operator.rounds("spot") >= 3)
    status_writes = [
        request
        for request in proxy.requests
        if request.method == "PATCH" and "/exchangefeeds/spot/status" in request.path
    ]
    assert len(status_writes) == 1
    assert status(api, namespace, "spot")["ingest"]["desired"] == 1


@pytest.mark.slow
def test_a_watch_that_stalls_is_opened_again(api: Api, namespace: str, behind: tuple[Operator, Proxy]):
    operator, proxy = behind
    create(api, namespace, feed("spot", ["BTCUSDT"]))
    with operator.run(K2_OPERATOR_RESYNC="600"):
        eventually(lambda: complete(api, namespace))
        time.sleep(1)
        proxy.stall()
        api.request("PATCH", api.feed(namespace, "spot"), {"spec": {"symbols": ["ETHUSDT"]}}, MERGE)
        time.sleep(3)
        assert not reconciled(api, namespace, "spot")
        eventually(lambda: reconciled(api, namespace, "spot"), within=75)


def test_after_410_gone_no_change_is_missed(api: Api, namespace: str, behind: tuple[Operator, Proxy]):
    operator, proxy = behind
    create(api, namespace, feed("spot", ["BTCUSDT"]))
    with operator.run(K2_OPERATOR_RESYNC="600") as process:
        eventually(lambda: complete(api, namespace))
        time.sleep(1)
        proxy.stall()
        api.request("PATCH", api.feed(namespace, "spot"), {"spec": {"symbols": ["ETHUSDT"]}}, MERGE)
        time.sleep(1)
        assert not reconciled(api, namespace, "spot")
        proxy.inject(410)
        eventually(lambda: reconciled(api, namespace, "spot"), within=15)
        assert process.poll() is None


def test_a_watch_that_ends_in_an_error_ends_the_process_and_a_restart_converges(
    api: Api, namespace: str, behind: tuple[Operator, Proxy]
):
    operator, proxy = behind
    create(api, namespace, feed("spot", ["BTCUSDT"]))
    with operator.run() as process:
        eventually(lambda: complete(api, namespace))
        time.sleep(1)
        proxy.stall()
        api.request("PATCH", api.feed(namespace, "spot"), {"spec": {"symbols": ["ETHUSDT"]}}, MERGE)
        proxy.inject(500)
        try:
            code = process.wait(5)
        except subprocess.TimeoutExpired:
            code = 0
        assert code != 0
    with operator.run():
        eventually(lambda: reconciled(api, namespace, "spot"))


def test_two_operators_at_once_do_not_write_in_turns(api: Api, namespace: str, tmp_path: Path):
    one, two = (Operator(tmp_path / name, api, namespace) for name in ("one", "two"))
    create(api, namespace, feed("spot", ["BTCUSDT"]))
    with one.run(K2_OPERATOR_RESYNC="1"), two.run(K2_OPERATOR_RESYNC="1"):
        eventually(lambda: complete(api, namespace) and one.rounds("spot") > 2 and two.rounds("spot") > 2)
        api.request("PATCH", api.feed(namespace, "spot"), {"spec": {"symbols": ["ETHUSDT"]}}, MERGE)
        eventually(lambda: reconciled(api, namespace, "spot"))
        time.sleep(2)
        body = api.request("GET", api.feed(namespace, "spot"))["metadata"]["resourceVersion"]
        before, rounds = versions(children(api, namespace, "spot")), (one.rounds("spot"), two.rounds("spot"))
        eventually(lambda: one.rounds("spot") >= rounds[0] + 4 and two.rounds("spot") >= rounds[1] + 4)
        assert versions(children(api, namespace, "spot")) == before
        assert api.request("GET", api.feed(namespace, "spot"))["metadata"]["resourceVersion"] == body


def test_a_feed_without_an_operator_is_released_by_removing_its_finalizer_by_hand(
    api: Api, namespace: str, operator: Operator
):
    create(api, namespace, feed("spot", ["BTCUSDT"]))
    with operator.run():
        eventually(lambda: complete(api, namespace))
    api.request("DELETE", api.feed(namespace, "spot"))
    body = api.request("GET", api.feed(namespace, "spot"))
    assert body["metadata"]["finalizers"] == ["k2.marketdata.io/operator"]
    api.request("PATCH", api.feed(namespace, "spot"), {"metadata": {"finalizers": None}}, MERGE)
    assert api.request("GET", api.feed(namespace, "spot"))["kind"] == "Status"


def settled(proxy: Proxy) -> int:
    """Return the number of applies once there has been none for two seconds."""

    def applies() -> int:
        before = len(proxy.applies())
        time.sleep(2)
        return before if len(proxy.applies()) == before else 0

    return eventually(applies, within=30)


def test_in_a_terminating_namespace_feeds_are_released_and_nothing_is_retried_endlessly(
    api: Api, namespace: str, behind: tuple[Operator, Proxy]
):
    operator, proxy = behind
    create(api, namespace, feed("spot", ["BTCUSDT"]))
    with operator.run() as process:
        eventually(lambda: complete(api, namespace))
        api.request("DELETE", f"/api/v1/namespaces/{namespace}")
        applies_before = len(proxy.applies())
        for kind, name in children(api, namespace, "spot"):  # as the namespace controller does, which is not here
            api.request("DELETE", f"{KINDS[kind].format(namespace)}/{name}")
        eventually(lambda: len(proxy.applies()) > applies_before)
        tried = settled(proxy)
        assert not children(api, namespace, "spot")
        api.request("DELETE", api.feed(namespace, "spot"))
        eventually(lambda: api.request("GET", api.feed(namespace, "spot"))["kind"] == "Status", within=10)
        settled(proxy)
        assert process.poll() is None
    assert tried - applies_before < 60


def test_the_log_is_json_throughout(api: Api, namespace: str, operator: Operator):
    create(api, namespace, feed("spot", ["BTCUSDT"]))
    with operator.run():
        eventually(lambda: operator.rounds("spot"))
    lines = operator.log.read_text().splitlines()
    assert len(lines) > 5
    assert [line for line in lines if not line.startswith("{") or not json.loads(line)] == []
