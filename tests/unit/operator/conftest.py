"""Builders of a live feed, the platform's settings, and manifests by kind and name."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import pytest

from k2.operator.desired import children
from k2.operator.desired.naming import Manifest
from k2.operator.settings import Settings
from k2.schemas.feed.model import ExchangeFeed

SETTINGS = {
    "ingest_image": "registry.example/k2-ingest:0.1.0",
    "jobs_image": "registry.example/k2-jobs:0.1.0",
    "kafka_bootstrap": "k2-kafka-bootstrap.kafka.svc:9092",
    "kafka_cluster": "k2",
    "registry_url": "http://registry.platform.svc:8080/apis/ccompat/v8",
    "catalog_uri": "postgresql+psycopg2://postgres.platform.svc/catalog",
    "catalog_secret": "k2-catalog",
    "warehouse": "s3://lake/warehouse",
    "checkpoints": "s3a://lake/checkpoints",
    "s3_endpoint": "http://minio.platform.svc:9000",
    "s3_secret": "k2-s3",
}
SCRAM = {
    "kafka_security_protocol": "SASL_SSL",
    "kafka_ca_secret": "k2-kafka-cluster-ca-cert",
    "kafka_ingest_secret": "k2-ingest",
    "kafka_jobs_secret": "k2-jobs",
}
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def now() -> datetime:
    return NOW


@pytest.fixture
def body() -> Callable[..., dict[str, Any]]:
    """Build a live ExchangeFeed with changes to its spec."""

    def build(name: str = "binance", namespace: str = "market", **spec: Any) -> dict[str, Any]:
        return {
            "apiVersion": "k2.marketdata.io/v1alpha1",
            "kind": "ExchangeFeed",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "uid": f"uid-of-{namespace}-{name}",
                "generation": 3,
                "creationTimestamp": "2026-01-01T00:00:00Z",
            },
            "spec": {"exchange": "binance", "symbols": ["BTCUSDT", "ETHUSDT"]} | spec,
        }

    return build


@pytest.fixture
def feed(body) -> Callable[..., ExchangeFeed]:
    """Build the same as a validated feed."""
    return lambda *args, **spec: ExchangeFeed.from_body(body(*args, **spec))


@pytest.fixture
def settings() -> Callable[..., Settings]:
    """Build complete settings with changes."""
    return lambda **changes: Settings.model_validate(SETTINGS | changes)


@pytest.fixture
def manifests(feed, settings) -> Callable[..., list[Manifest]]:
    """Build the children of a kind, of a feed with changes to its spec."""

    def build(
        kind: str, *, name: str = "binance", platform: dict[str, Any] | None = None, restart: str = "", **spec: Any
    ) -> list[Manifest]:
        manifests = children(feed(name, **spec), settings(**(platform or {})), restart=restart)
        return [manifest for manifest in manifests if manifest["kind"] == kind]

    return build


def by_name(manifests: Iterable[Manifest]) -> dict[str, Manifest]:
    return {f"{manifest['kind']}/{manifest['metadata']['name']}": manifest for manifest in manifests}


@pytest.fixture
def manifests_by_name(feed, settings) -> Callable[..., dict[str, Manifest]]:
    """Build all children, by kind and name."""
    return lambda **spec: by_name(children(feed(**spec), settings()))
