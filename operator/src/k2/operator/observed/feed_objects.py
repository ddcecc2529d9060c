"""The Kubernetes objects of a feed, as the watches last reported them."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from k2.operator.observed.objects import K8sObject


@dataclass(frozen=True, slots=True)
class FeedObjects:
    """A feed's children and pods, the cluster's feeds, and the topics that feeds of one exchange share."""

    children: tuple[K8sObject, ...] = ()
    pods: tuple[K8sObject, ...] = ()
    feeds: tuple[K8sObject, ...] = ()
    shared: tuple[K8sObject, ...] = ()

    def find(self, kind: str, name: str) -> K8sObject | None:
        """Return a child by kind and name."""
        return _find(self.children, kind, name)

    def topic(self, name: str) -> K8sObject | None:
        """Return a KafkaTopic by name, of the feed or shared."""
        return _find(self.children, "KafkaTopic", name) or _find(self.shared, "KafkaTopic", name)

    def of_kind(self, kind: str) -> list[K8sObject]:
        """Return the children of a kind."""
        return [raw for raw in self.children if raw["kind"] == kind]

    def with_written(self, written: Iterable[K8sObject]) -> "FeedObjects":
        """Return the objects with newly written children in place of their older versions."""
        newer = {_key(raw): raw for raw in written}
        unchanged = (raw for raw in self.children if _key(raw) not in newer)
        return replace(self, children=(*unchanged, *newer.values()))


def _find(objects: Iterable[K8sObject], kind: str, name: str) -> K8sObject | None:
    return next((raw for raw in objects if raw["kind"] == kind and raw["metadata"]["name"] == name), None)


def _key(raw: K8sObject) -> tuple[str, str]:
    return raw["kind"], raw["metadata"]["name"]
