"""Sizes of Spark's pods. A layer's resources apply to the pods that do the work: executors, or a lone driver."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from k2.operator import quantities
from k2.operator.desired.naming import COMBINED
from k2.operator.settings import Settings
from k2.schemas.feed.model import ExchangeFeed, Layer, Resources

_NON_HEAP_DIVISOR: Final = 5  # at least a fifth of a large process is non-heap memory
_MIN_HEAP: Final = 512  # MiB: Spark does not start with less than 450 MiB of usable heap


@dataclass(frozen=True, slots=True)
class _NonHeapMemory:
    """Non-heap memory of a process, in MiB: metaspace, code cache, buffers, and a driver's Python."""

    default: int
    minimum: int


_DRIVER: Final = _NonHeapMemory(default=512, minimum=384)
_EXECUTOR: Final = _NonHeapMemory(default=192, minimum=128)


@dataclass(frozen=True, slots=True)
class Size:
    """The size of one pod. Spark requests and limits the sum of heap and overhead, both in MiB."""

    cores: int
    core_request: str
    core_limit: str
    heap: int
    overhead: int

    def document(self) -> dict[str, Any]:
        """Return the fields of a SparkApplication's driver or executor."""
        limit = {"coreLimit": self.core_limit} if self.core_limit else {}
        memory = {"memory": f"{self.heap}m", "memoryOverhead": f"{self.overhead}m"}
        return {"cores": self.cores, "coreRequest": self.core_request, **limit, **memory}


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of one application's pods. Without executors, the driver does the work."""

    driver: Size
    executor: Size
    executors: int


def of(feed: ExchangeFeed, settings: Settings, part: str) -> Sizes:
    """Return the sizes for one layer, or for `layers`, which gets the largest amounts that any layer requests."""
    layers = feed.spec.layers
    selected: list[Layer] = [layers.bronze, layers.silver, layers.gold] if part == COMBINED else [getattr(layers, part)]
    resources = [layer.resources for layer in selected]
    count = max(layer.executors for layer in selected)
    memory = settings.combined_memory if part == COMBINED else settings.driver_memory
    of_driver = () if count else resources
    return Sizes(
        driver=_size(of_driver, settings.spark_cpu, memory, _DRIVER),
        executor=_size(resources if count else (), settings.spark_cpu, settings.executor_memory, _EXECUTOR),
        executors=count,
    )


def _size(of_layers: Iterable[Resources], cpu: str, memory: str, non_heap: _NonHeapMemory) -> Size:
    all_resources = list(of_layers)
    limit = _largest(resources.limits.cpu for resources in all_resources)
    request = _largest(resources.requests.cpu for resources in all_resources)
    memory_limit = _largest(resources.limits.memory for resources in all_resources)
    memory_request = _largest(resources.requests.memory for resources in all_resources)
    total = quantities.mebibytes(memory_limit or memory_request or memory)
    heap = max(_MIN_HEAP, total - max(non_heap.default, total // _NON_HEAP_DIVISOR))
    return Size(
        cores=quantities.cores(limit or request or "1"),
        core_request=request or limit or cpu,
        core_limit=limit,
        heap=heap,
        overhead=max(non_heap.minimum, total - heap),
    )


def _largest(amounts: Iterable[str | None]) -> str:
    parsed = [(number, amount) for amount in amounts if amount and (number := quantities.parse(amount)) is not None]
    return max(parsed, default=(0, ""))[1]
