"""Status of a feed's pods, read from their HTTP endpoint `/status`. A pod that does not answer is left out."""

import asyncio
from collections.abc import Iterable
from typing import Any, Final

import httpx2
import msgspec

from k2.common import logs
from k2.operator.desired.naming import INGEST, METRICS, channel_of
from k2.operator.observed import objects
from k2.operator.observed.objects import K8sObject, Layer, Shard
from k2.schemas.feed.model import ExchangeFeed

log = logs.get("pod_status")

_COMPONENT: Final = "app.kubernetes.io/component"
_TIMEOUT: Final = 2.0  # seconds


class PodStatusReader:
    """Requests `/status` from pods."""

    def __init__(self) -> None:
        self._http = httpx2.AsyncClient(timeout=_TIMEOUT)

    async def close(self) -> None:
        """Close open connections."""
        await self._http.aclose()

    async def read(self, feed: ExchangeFeed, pods: Iterable[K8sObject]) -> tuple[tuple[Shard, ...], dict[str, Layer]]:
        """Return the ingest shards and the layers of a feed, as its pods report them."""
        targets = [(pod, url) for pod in pods if (url := _url(pod))]
        answers = await asyncio.gather(*(self._get(url) for _, url in targets))
        shards: list[Shard] = []
        layers: dict[str, Layer] = {}
        for (pod, _), answer in zip(targets, answers, strict=True):
            if answer is None:
                continue
            try:
                if pod["metadata"].get("labels", {}).get(_COMPONENT) == INGEST:
                    shards.append(objects.shard(answer, pod["metadata"]["name"], channel_of(pod)))
                else:
                    layers |= objects.layers(answer, feed.name)
            except msgspec.ValidationError as error:
                log.warning("pod status invalid", pod=pod["metadata"]["name"], error=str(error))
        return tuple(sorted(shards, key=lambda shard: (shard.channel, shard.shard))), layers

    async def _get(self, url: str) -> Any:
        try:
            answer = await self._http.get(url)
            answer.raise_for_status()
            return answer.json()
        except (httpx2.HTTPError, ValueError) as error:
            log.info("pod status unavailable", url=url, error=repr(error))
            return None


def _url(pod: K8sObject) -> str:
    """Return the URL of a pod's status; empty for a pod that has no such port or does not run."""
    status = pod.get("status", {})
    ports = [port for container in pod["spec"]["containers"] for port in container.get("ports", ())]
    port = next((port["containerPort"] for port in ports if port.get("name") == METRICS), 0)
    if status.get("phase") != "Running" or not status.get("podIP") or not port:
        return ""
    host = status["podIP"]
    return f"http://[{host}]:{port}/status" if ":" in host else f"http://{host}:{port}/status"
