"""How large Spark's pods are. What a user asks for goes to the pods that do the work: executors, or a lone driver."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from k2.operator import quantities
from k2.operator.desired.naming import COMBINED
from k2.operator.settings import Settings
from k2.schemas.feed.model import ExchangeFeed, Layer, Resources

_SHARE: Final = 5  # of a large process at least a fifth is not its heap
_LEAST_HEAP: Final = 512  # MiB: Spark refuses to start with less than 450, of what the collector leaves of it


@dataclass(frozen=True, slots=True)
class _Beside:
    """What a process takes beside its heap, in MiB: metaspace, compiled code, buffers, and a driver's Python."""

    usual: int
    least: int


_DRIVER: Final = _Beside(usual=512, least=384)
_EXECUTOR: Final = _Beside(usual=192, least=128)


@dataclass(frozen=True, slots=True)
class Size:
    """One pod. Spark requests and limits the sum of heap and overhead, both in MiB."""

    cores: int
    core_request: str
    core_limit: str
    heap: int
    overhead: int

    def document(self) -> dict[str, Any]:
        """The fields of a SparkApplication's driver or executor."""
        limit = {"coreLimit": self.core_limit} if self.core_limit else {}
        memory = {"memory": f"{self.heap}m", "memoryOverhead": f"{self.overhead}m"}
        return {"cores": self.cores, "coreRequest": self.core_request, **limit, **memory}


@dataclass(frozen=True, slots=True)
class Sizes:
    """The pods of one application. No executors: the driver does the work."""

    driver: Size
    executor: Size
    executors: int


def of(feed: ExchangeFeed, settings: Settings, part: str) -> Sizes:
    """The sizes of one layer, or of `layers`, which gets the largest amount that any of the three asks for."""
    layers = feed.spec.layers
    mine: list[Layer] = [layers.bronze, layers.silver, layers.gold] if part == COMBINED else [getattr(layers, part)]
    asked = [layer.resources for layer in mine]
    count = max(layer.executors for layer in mine)
    memory = settings.combined_memory if part == COMBINED else settings.driver_memory
    lone = () if count else asked
    return Sizes(
        driver=_size(lone, settings.spark_cpu, memory, _DRIVER),
        executor=_size(asked if count else (), settings.spark_cpu, settings.executor_memory, _EXECUTOR),
        executors=count,
    )


def _size(asked: Iterable[Resources], cpu: str, memory: str, beside: _Beside) -> Size:
    known = list(asked)
    limit = _largest(resources.limits.cpu for resources in known)
    request = _largest(resources.requests.cpu for resources in known)
    most = _largest(resources.limits.memory for resources in known)
    least = _largest(resources.requests.memory for resources in known)
    total = quantities.mebibytes(most or least or memory)
    heap = max(_LEAST_HEAP, total - max(beside.usual, total // _SHARE))
    return Size(
        cores=quantities.cores(limit or request or "1"),
        core_request=request or limit or cpu,
        core_limit=limit,
        heap=heap,
        overhead=max(beside.least, total - heap),
    )


def _largest(amounts: Iterable[str | None]) -> str:
    known = [(number, amount) for amount in amounts if amount and (number := quantities.parse(amount)) is not None]
    return max(known, default=(0, ""))[1]
