"""Prometheus metrics of the HTTP API. Routes are labelled by their templates, never by the path of a request."""

import time
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from k2.query.api.limits import QueryLimiter

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """The metrics of one application, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ("method", "route")
        self.requests = Counter(
            "k2_api_requests", "requests answered or cut off", (*labels, "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "k2_api_request_seconds",
            "time from a request to the end of its response",
            labels,
            registry=self.registry,
            buckets=_BUCKETS,
        )
        self.sent = Counter("k2_api_response_bytes", "bytes of response bodies", ("route",), registry=self.registry)
        self.running = Gauge("k2_api_requests_running", "requests in progress", registry=self.registry)
        self.queries = Gauge("k2_api_queries_running", "queries that the engine is running", registry=self.registry)
        self.waiting = Gauge("k2_api_queries_waiting", "queries that wait for a slot", registry=self.registry)
        self.conflicts = Gauge(
            "k2_api_tail_conflicts",
            "records that the last hybrid query left out: another with their id and other content came first",
            registry=self.registry,
        )

    def observe_conflicts(self, count: "Callable[[], int]") -> None:
        """Export how many conflicts the last hybrid query left out."""
        self.conflicts.set_function(lambda: float(count()))

    def observe_limiters(self, queries: "QueryLimiter", statements: "QueryLimiter") -> None:
        """Export how many queries run and wait. A running SQL statement takes a slot of both limiters."""
        self.queries.set_function(lambda: float(queries.running))
        self.waiting.set_function(lambda: float(queries.queued + statements.queued))


class MetricsMiddleware:
    """Count every request, and measure its duration."""

    def __init__(self, app: "ASGIApp", metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Pass one request on, and record its status, bytes and duration."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        response: dict[str, Any] = {"status": "broken", "bytes": 0}

        async def recording_send(message: "Message") -> None:
            if message["type"] == "http.response.start":
                response["status"] = str(message["status"])
            else:
                response["bytes"] += len(message.get("body", b""))
            await send(message)

        started_at = time.perf_counter()
        self._metrics.running.inc()
        try:
            await self._app(scope, receive, recording_send)
        except BaseException:
            response["status"] = "broken"
            raise
        finally:
            self._metrics.running.dec()
            self._record(scope, response, time.perf_counter() - started_at)

    def _record(self, scope: "Scope", response: dict[str, Any], seconds: float) -> None:
        route = getattr(scope.get("route"), "path", None) or "other"
        method = scope["method"] if scope["method"] in {"GET", "POST", "OPTIONS"} else "other"
        self._metrics.requests.labels(method, route, response["status"]).inc()
        self._metrics.seconds.labels(method, route).observe(seconds)
        self._metrics.sent.labels(route).inc(response["bytes"])
