"""What the pods of a feed say of themselves over HTTP. A pod that does not answer says nothing."""

import asyncio
from collections.abc import Iterable
from typing import Any, Final

import httpx2

from k2.common import logs
from k2.operator.desired.naming import INGEST, METRICS
from k2.operator.observed import objects
from k2.operator.observed.objects import Layer, Raw, Shard
from k2.schemas.feed.model import ExchangeFeed

log = logs.get("figures")

_COMPONENT: Final = "app.kubernetes.io/component"
_TIMEOUT: Final = 2.0


class Figures:
    """Asks pods for /status."""

    def __init__(self) -> None:
        self._http = httpx2.AsyncClient(timeout=_TIMEOUT)

    async def close(self) -> None:
        """Closes connections."""
        await self._http.aclose()

    async def read(self, feed: ExchangeFeed, pods: Iterable[Raw]) -> tuple[tuple[Shard, ...], dict[str, Layer]]:
        """The shards and layers of a feed, as its pods tell them."""
        asked = [(pod, url) for pod in pods if (url := _url(pod))]
        answers = await asyncio.gather(*(self._ask(url) for _, url in asked))
        shards: list[Shard] = []
        layers: dict[str, Layer] = {}
        for (pod, _), answer in zip(asked, answers, strict=True):
            if answer is None:
                continue
            if pod["metadata"].get("labels", {}).get(_COMPONENT) == INGEST:
                shards.append(objects.shard(answer))
            else:
                layers |= objects.layers(answer, feed.name)
        return tuple(sorted(shards, key=lambda shard: shard.shard)), layers

    async def _ask(self, url: str) -> Any:
        try:
            answer = await self._http.get(url)
            answer.raise_for_status()
            return answer.json()
        except (httpx2.HTTPError, ValueError) as error:
            log.info("a pod does not say how it is", url=url, error=repr(error))
            return None


def _url(pod: Raw) -> str:
    """Where a pod tells its status; empty for one that has no such port or does not run."""
    about = pod.get("status", {})
    ports = [port for container in pod["spec"]["containers"] for port in container.get("ports", ())]
    port = next((port["containerPort"] for port in ports if port.get("name") == METRICS), 0)
    if about.get("phase") != "Running" or not about.get("podIP") or not port:
        return ""
    host = about["podIP"]
    return f"http://[{host}]:{port}/status" if ":" in host else f"http://{host}:{port}/status"
