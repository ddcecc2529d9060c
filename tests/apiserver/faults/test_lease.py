"""Two operators with one Lease: one is active, the other stands by, and none writes without the Lease."""

import signal
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import pytest

from k2.operator.api.election import EXIT_CODE
from tests.apiserver.faults.test_faults import complete
from tests.apiserver.support.servers import OPERATOR, Api, Operator, eventually, free_port
from tests.apiserver.test_operator import create, feed

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(240)]

TAKEOVER = 15.0  # seconds


@pytest.fixture
def pair(api: Api, namespace: str, tmp_path: Path) -> tuple[Operator, Operator]:
    return Operator(tmp_path / "first", api, namespace), Operator(tmp_path / "second", api, namespace)


def holder(api: Api, namespace: str) -> str:
    place = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/k2-operator"
    return str(api.request("GET", place).get("spec", {}).get("holderIdentity", ""))


def took_over(second: Operator, name: str) -> bool:
    return second.rounds(name) > 0


def test_a_standby_takes_over_from_one_that_is_killed_and_at_once_from_one_that_ends(
    api: Api, namespace: str, pair: tuple[Operator, Operator]
):
    first, second = pair
    lease = f"--lease={namespace}/k2-operator"
    create(api, namespace, feed("spot", ["BTCUSDT"]))
    with ExitStack() as stack:
        leader = stack.enter_context(first.run(lease))
        eventually(lambda: complete(api, namespace))
        standby = stack.enter_context(second.run(lease))
        eventually(second.is_standing_by)
        assert not second.writes()
        leader.send_signal(signal.SIGKILL)
        eventually(lambda: took_over(second, "spot"), within=TAKEOVER)
        stack.enter_context(first.run(lease))
        eventually(first.is_standing_by)
        standby.send_signal(signal.SIGTERM)
        assert standby.wait(20) == 0
        eventually(lambda: took_over(first, "spot"), within=TAKEOVER)


def test_a_leader_that_was_stopped_and_continues_writes_nothing_more(
    api: Api, namespace: str, pair: tuple[Operator, Operator]
):
    first, second = pair
    lease = f"--lease={namespace}/k2-operator"
    with ExitStack() as stack:
        leader = stack.enter_context(first.run(lease, K2_OPERATOR_RESYNC="1"))
        create(api, namespace, feed("spot", ["BTCUSDT"]))
        eventually(lambda: complete(api, namespace))
        stack.enter_context(second.run(lease))
        eventually(second.is_standing_by)
        leader.send_signal(signal.SIGSTOP)
        try:
            before, stopped = holder(api, namespace), len(first.writes())
            create(api, namespace, feed("other", ["ETHUSDT"]))
            eventually(lambda: took_over(second, "other"), within=TAKEOVER)
            assert holder(api, namespace) not in {"", before}
            # What the leader would write, if it did not know that it is none any more.
            api.request("DELETE", f"/api/v1/namespaces/{namespace}/services/spot")
        finally:
            leader.send_signal(signal.SIGCONT)
        assert leader.wait(20) == EXIT_CODE
        assert len(first.writes()) == stopped
        assert holder(api, namespace) not in {"", before}


def test_without_the_right_to_write_the_lease_nothing_is_written_and_the_pod_is_not_ready(
    api: Api, namespace: str, tmp_path: Path
):
    operator, metrics = Operator(tmp_path / "operator", api, namespace, token=OPERATOR), free_port()
    create(api, namespace, feed("spot", ["BTCUSDT"]))

    def readiness() -> int:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{metrics}/readyz", timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    with operator.run(f"--lease={namespace}/k2-operator", f"--metrics={metrics}"):
        eventually(lambda: readiness() == 503)
        deadline = time.monotonic() + 3
        eventually(lambda: time.monotonic() > deadline)
        assert readiness() == 503
        assert not operator.writes()
        (line,) = operator.lines("the lease cannot be read or written: nothing is written without it")
        assert "403" in line["error"]
