"""One broker for the tests that bring their own records; empty for each of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from k2.common.platform import Platform
from tests.system import lab as laboratory
from tests.system.lab import Lab


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with laboratory.broker(tmp_path_factory.mktemp("broker")) as address:
        yield address


@pytest.fixture
def platform_at(kafka: str, registry_url: str, tmp_path: Path) -> Platform:
    return Platform(
        kafka_bootstrap=kafka,
        registry_url=registry_url,
        catalog_uri=f"sqlite:///{tmp_path}/catalog.db",
        warehouse=f"file:{tmp_path}/warehouse",
    )


@pytest.fixture
def lab(platform_at: Platform) -> Iterator[Lab]:
    new_lab = Lab(platform_at)
    yield new_lab
    new_lab.empty()
