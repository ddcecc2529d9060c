"""What the API tells Prometheus, declared in one place. Routes are told by their templates, never by what was asked."""

import time
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from k2.query.api.limits import Slots

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """One registry for one application."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ("method", "route")
        self.requests = Counter(
            "k2_api_requests", "requests answered, or broken off", (*labels, "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "k2_api_request_seconds",
            "from a request to the end of its answer",
            labels,
            registry=self.registry,
            buckets=_BUCKETS,
        )
        self.sent = Counter("k2_api_response_bytes", "bytes of bodies", ("route",), registry=self.registry)
        self.running = Gauge("k2_api_requests_running", "requests that are being answered", registry=self.registry)
        self.queries = Gauge("k2_api_queries_running", "questions that the engine works on", registry=self.registry)
        self.waiting = Gauge("k2_api_queries_waiting", "questions that wait for a place", registry=self.registry)

    def watch(self, queries: "Slots", statements: "Slots") -> None:
        """Shows how many questions wait, and how many do not. A statement that runs has a place of both kinds."""
        self.queries.set_function(lambda: float(queries.running))
        self.waiting.set_function(lambda: float(queries.waiting + statements.waiting))


class Measured:
    """Counts every request and how long it took."""

    def __init__(self, app: "ASGIApp", metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        found: dict[str, Any] = {"status": "broken", "bytes": 0}

        async def watched(message: "Message") -> None:
            if message["type"] == "http.response.start":
                found["status"] = str(message["status"])
            else:
                found["bytes"] += len(message.get("body", b""))
            await send(message)

        began = time.perf_counter()
        self._metrics.running.inc()
        try:
            await self._app(scope, receive, watched)
        except BaseException:
            found["status"] = "broken"
            raise
        finally:
            self._metrics.running.dec()
            self._tell(scope, found, time.perf_counter() - began)

    def _tell(self, scope: "Scope", found: dict[str, Any], took: float) -> None:
        route = getattr(scope.get("route"), "path", None) or "other"
        method = scope["method"] if scope["method"] in {"GET", "POST", "OPTIONS"} else "other"
        self._metrics.requests.labels(method, route, found["status"]).inc()
        self._metrics.seconds.labels(method, route).observe(took)
        self._metrics.sent.labels(route).inc(found["bytes"])
