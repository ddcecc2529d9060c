"""Access to a cluster with K2: kubectl, the trades emitted by the simulated exchanges, and Gold."""

import base64
import json
import os
import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import quote

from cluster.platform import NAMESPACE
from cluster.shell import StepFailed, run
from k2.common.platform import Platform
from k2.query.engine import Engine
from k2.query.errors import Unavailable
from k2.schemas.tables import NAMESPACE as NAMESPACE_OF_TABLES


def eventually(what: str, check: Callable[[], Any], timeout: float = 240.0, interval: float = 1.0) -> Any:
    """Return the first true result of `check`. Raises AssertionError, naming `what`, after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        if result := check():
            return result
        assert time.monotonic() < deadline, f"timed out after {timeout:.0f} s waiting for: {what}"
        time.sleep(interval)


@dataclass(slots=True)
class Cluster:
    """A cluster with K2."""

    env: dict[str, str] = field(repr=False)

    def kubectl(self, *words: str, stdin: str = "", namespace: str = NAMESPACE) -> str:
        """Run kubectl and return its output. Raises `StepFailed`."""
        return run("kubectl", "-n", namespace, *words, env=self.env, stdin=stdin)

    def get(self, kind: str, name: str, namespace: str = NAMESPACE) -> dict[str, Any]:
        """Return an object; empty if it does not exist."""
        output = self.kubectl("get", kind, name, "-o", "json", "--ignore-not-found", namespace=namespace)
        return json.loads(output) if output.strip() else {}

    def objects(self, kind: str, selector: str = "", namespace: str = NAMESPACE) -> list[dict[str, Any]]:
        """Return the objects of a kind in a namespace."""
        words = ["-l", selector] if selector else []
        return list(json.loads(self.kubectl("get", kind, "-o", "json", *words, namespace=namespace))["items"])

    def raw(self, path: str) -> Any:
        """Return the JSON at a path of the API server."""
        return json.loads(run("kubectl", "get", "--raw", path, env=self.env))

    def service(self, name: str, port: str, path: str, namespace: str = NAMESPACE) -> Any:
        """Return the JSON at a path of a Service, through the API server's proxy."""
        return self.raw(f"/api/v1/namespaces/{namespace}/services/{name}:{port}/proxy/{path}")

    def patch(self, name: str, spec: dict[str, Any], kind: str = "feed") -> None:
        """Merge a patch into an object's spec."""
        self.kubectl("patch", kind, name, "--type=merge", "-p", json.dumps({"spec": spec}))

    def condition(self, feed: str, name: str = "Ready") -> dict[str, Any]:
        """Return a condition of a feed."""
        conditions = self.get("feed", feed).get("status", {}).get("conditions", [])
        return next((entry for entry in conditions if entry["type"] == name), {})

    def wait_ready(self, feed: str, timeout: float = 300.0) -> None:
        """Wait until a feed is Ready with its current spec."""

        def check() -> bool:
            body = self.get("feed", feed)
            status = body.get("status", {})
            current = status.get("observedGeneration") == body["metadata"]["generation"]
            return current and self.condition(feed).get("status") == "True"

        try:
            eventually(f"{feed} is Ready", check, timeout, interval=2)
        except AssertionError as error:
            raise AssertionError(f"{error}: {json.dumps(self.get('feed', feed).get('status'))}") from None

    def pod_uids(self, selector: str = "", namespace: str = NAMESPACE) -> dict[str, str]:
        """Return the uids of running pods by name."""
        pods = self.objects("pods", selector, namespace)
        return {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in pods if pod["status"]["phase"] == "Running"}

    def prometheus(self, query: str) -> list[dict[str, Any]]:
        """Return the vector of a PromQL query."""
        response = self.service("prometheus-operated", "9090", f"api/v1/query?query={quote(query)}", "monitoring")
        return list(response["data"]["result"])

    def secret(self, name: str) -> dict[str, str]:
        """Return the decoded data of a Secret."""
        data = self.get("secret", name)["data"]
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    def emitted(self, exchange: str, channel: str = "trades") -> dict[str, set[str]]:
        """Return the ids of all trades, or the numbers of all quotes, that an exchange emitted, by raw symbol."""
        ids_by_symbol = self.service(f"simulated-{exchange}", "exchange", f"_sim/emitted?channel={channel}")
        return {native: set(map(str, ids)) for native, ids in ids_by_symbol.items()}

    def inject_fault(self, exchange: str, fault: str) -> None:
        """Inject a fault into a simulated exchange."""
        with self.port_forward(f"svc/simulated-{exchange}", 8765) as address:
            subprocess.run(["curl", "-sf", "-d", fault, f"http://{address}/_sim/faults"], check=True, timeout=20)

    @contextmanager
    def port_forward(self, target: str, port: int, namespace: str = NAMESPACE) -> Iterator[str]:
        """Forward a port of the cluster; yield the local `host:port`."""
        words = ["kubectl", "-n", namespace, "port-forward", "--address", "127.0.0.1", target, f":{port}"]
        output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        with subprocess.Popen(words, env=self.env, **output) as process:
            try:
                assert process.stdout is not None
                line = process.stdout.readline()
                matched = re.search(r"127\.0\.0\.1:(\d+)", line)
                assert matched, line
                yield matched[0]
            finally:
                process.terminate()

    def platform(self, postgres: str, minio: str) -> Platform:
        """Return the platform with local addresses of the services."""
        catalog, bucket = self.secret("k2-catalog"), self.secret("k2-s3-query")
        os.environ |= {"AWS_ACCESS_KEY_ID": bucket["access-key"], "AWS_SECRET_ACCESS_KEY": bucket["secret-key"]}
        return Platform.read(
            catalog_uri=f"postgresql://{postgres}/iceberg",
            catalog_user=catalog["username"],
            catalog_password=catalog["password"],
            warehouse="s3://k2-lake/warehouse",
            s3_endpoint=f"http://{minio}",
        )

    @contextmanager
    def engine(self) -> Iterator[Engine]:
        """Run a query engine on the cluster's catalog and bucket."""
        with ExitStack() as stack:
            postgres = stack.enter_context(self.port_forward("svc/k2-postgres", 5432))
            minio = stack.enter_context(self.port_forward("svc/k2-minio", 9000))
            yield stack.enter_context(closing(Engine(self.platform(postgres, minio))))

    def sql(self, statement: str) -> list[dict[str, Any]]:
        """Return the rows of a SQL query over the tables."""
        with self.engine() as engine:
            return list(engine.sql(statement).to_pylist())

    def tables(self) -> set[str]:
        """Return the names of the tables in the catalog."""
        with self.engine() as engine:
            return {name for _, name in engine.catalog.list_tables(NAMESPACE_OF_TABLES)}

    def gold(self, exchange: str) -> dict[str, list[str]]:
        """Return the trade ids of an exchange in Gold by symbol, duplicates included."""
        statement = f"SELECT symbol, trade_id FROM gold_crypto_trades WHERE exchange = '{exchange.upper()}'"
        trade_ids: dict[str, list[str]] = {}
        for row in self.sql(statement):
            trade_ids.setdefault(row["symbol"], []).append(row["trade_id"])
        return trade_ids

    def run_audit(self) -> tuple[int, str]:
        """Run the audit, and return its exit code and its log."""
        name = f"audit-{time.time_ns() // 1_000_000}"
        self.kubectl("create", "job", name, "--from=cronjob/k2-audit")
        self._until_ended(name)
        log = self.kubectl("logs", f"job/{name}")
        pods = self.objects("pods", f"batch.kubernetes.io/job-name={name}")
        states = [status["state"] for pod in pods for status in pod["status"]["containerStatuses"]]
        return max(state["terminated"]["exitCode"] for state in states), log

    def _until_ended(self, name: str) -> None:
        def ended() -> bool:
            status = self.get("job", name).get("status", {})
            return bool(status.get("succeeded") or status.get("failed"))

        eventually(f"job {name} has ended", ended, timeout=600)


def assert_gold_complete(cluster: Cluster, exchange: str, symbols: dict[str, str], timeout: float = 480.0) -> int:
    """Wait until Gold has all trades emitted so far, each once; return the number of trades.

    `symbols` maps the raw symbol of the exchange to the symbol in Gold.
    """
    emitted = cluster.emitted(exchange)
    missing_ids: dict[str, set[str]] = {}

    def read() -> dict[str, list[str]] | None:
        try:
            return cluster.gold(exchange)
        except Unavailable:  # the port forward failed on a busy machine: retry
            return None

    def check() -> bool:
        gold = read()
        if gold is None:
            return False
        missing_ids.clear()
        missing_ids.update({native: emitted[native] - set(gold.get(symbol, ())) for native, symbol in symbols.items()})
        return not any(missing_ids.values())

    try:
        eventually("Gold has all trades", check, timeout, interval=5)
    except AssertionError:
        missing = {native: (len(ids), sorted(ids)[:5]) for native, ids in missing_ids.items()}
        raise AssertionError(f"Gold of {exchange} misses {missing} after {timeout:.0f} s") from None
    gold, emitted = eventually("Gold can be read", read, 60.0, interval=5), cluster.emitted(exchange)
    for native, symbol in symbols.items():
        twice = sorted(trade_id for trade_id, times in Counter(gold[symbol]).items() if times > 1)
        assert not twice, f"{symbol} has {len(twice)} duplicate trades, {twice[:3]} to {twice[-3:]}"
        invented = sorted(set(gold[symbol]) - emitted[native])
        assert not invented, (
            f"{symbol} has {len(invented)} trades that were never emitted: {invented[:3]} to {invented[-3:]}"
        )
    return sum(len(gold[symbol]) for symbol in symbols.values())


def assert_gold_quotes_complete(
    cluster: Cluster, exchange: str, symbols: dict[str, str], since: datetime, timeout: float = 480.0
) -> int:
    """Wait until Gold has all quotes emitted so far since its first one after `since`, each once; return their number.

    The exchange must number its quotes, as Binance does, and no connection may have been lost: quotes are not repaired.
    """
    emitted = cluster.emitted(exchange, "quotes")
    statement = (
        f"SELECT symbol, sequence, connection, ordinal FROM gold_crypto_quotes WHERE exchange = '{exchange.upper()}'"
        f" AND ingestion_timestamp >= TIMESTAMPTZ '{since.isoformat()}'"
    )
    rows: list[dict[str, Any]] = []
    missing: dict[str, list[int]] = {}

    def stored(symbol: str) -> set[int]:
        return {row["sequence"] for row in rows if row["symbol"] == symbol}

    def check() -> bool:
        try:
            rows[:] = cluster.sql(statement)
        except Unavailable:  # the port forward failed on a busy machine: retry
            return False
        missing.clear()
        for raw_symbol, symbol in symbols.items():
            numbers = stored(symbol)
            expected = {int(number) for number in emitted[raw_symbol]}
            missing[raw_symbol] = sorted(n for n in expected - numbers if not numbers or n > min(numbers))
        return bool(rows) and not any(missing.values())

    try:
        eventually("Gold has all quotes", check, timeout, interval=5)
    except AssertionError:
        misses = {name: (len(numbers), numbers[:5]) for name, numbers in missing.items()}
        raise AssertionError(f"Gold of {exchange} misses quotes {misses} after {timeout:.0f} s") from None
    twice = [key for key, times in Counter((row["connection"], row["ordinal"]) for row in rows).items() if times > 1]
    assert not twice, f"{len(twice)} quotes are stored twice: {twice[:3]}"
    firsts = {row["connection"] for row in rows} - {row["connection"] for row in rows if row["ordinal"] == 1}
    assert not firsts, f"the first quotes of connections {sorted(firsts)} are missing"
    emitted = cluster.emitted(exchange, "quotes")
    for raw_symbol, symbol in symbols.items():
        invented = sorted(stored(symbol) - {int(number) for number in emitted[raw_symbol]})
        assert not invented, f"{symbol} has {len(invented)} quotes that were never emitted: {invented[:3]}"
    return len(rows)


BINANCE = {"BTCUSDT": "BTCUSDT", "ETHUSDT": "ETHUSDT"}
KRAKEN = {"BTC/USD": "BTCUSD", "ETH/USD": "ETHUSD"}

__all__ = [
    "BINANCE",
    "KRAKEN",
    "Cluster",
    "StepFailed",
    "assert_gold_complete",
    "assert_gold_quotes_complete",
    "eventually",
]
