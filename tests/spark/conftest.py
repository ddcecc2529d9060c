"""One JVM for all Spark tests; a fresh lake, in the same catalog, for each."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from k2.cli.embedded.registry import application
from k2.cli.embedded.schema_store import SchemaStore
from k2.common.platform import Platform
from k2.common.registry_connection import RegistryConnection
from k2.common.schema_registry import Registry
from k2.jobs.spark.jvm import gateway, jars
from k2.jobs.spark.jvm.java import find_java
from k2.jobs.spark.session import session, settings
from k2.schemas import topics
from k2.schemas.codecs import avro
from k2.schemas.exchanges.registry import EXCHANGES
from tests import seaweedfs
from tests.background_server import serve
from tests.spark import empty_tables
from tests.spark.builders import Lake


@pytest.fixture(scope="session")
def registry_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serve(application(SchemaStore(tmp_path_factory.mktemp("registry") / "registry.db"))) as url:
        yield url


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory, registry_url: str) -> Platform:
    root = tmp_path_factory.mktemp("lake")
    return Platform(
        registry_url=registry_url,
        catalog_uri=f"sqlite:///{root}/catalog.db",
        warehouse=f"file:{root}/warehouse",
        checkpoints=f"{root}/checkpoints",
    )


@pytest.fixture(scope="session")
def spark(services: Platform) -> Iterator[SparkSession]:
    java = find_java()
    # With SeaweedFS, tests of a REST catalog have their tables in its store.
    sets = (jars.SPARK, jars.S3) if seaweedfs.WEED else (jars.SPARK,)
    jars.ensure(java, sets=sets)
    conf = settings(services, master="local[2]")
    options = ["-Xmx1g", "-XX:+UseSerialGC", *java.trust_options]
    gateway.start(java, conf, options=options, sets=sets, log=_log(services))
    session_ = session(conf)
    yield session_
    session_.stop()


def _log(services: Platform) -> Path:
    return Path(services.checkpoints).parent / "jvm.log"


@pytest.fixture(scope="session")
def schema_id(registry_url: str) -> int:
    registry = Registry(RegistryConnection(registry_url))
    (schema_id_,) = {registry.register(topics.subject(topics.trades(name)), avro.text()) for name in EXCHANGES}
    return schema_id_


@pytest.fixture
def empty(spark: SparkSession, services: Platform, tmp_path: Path) -> Platform:
    """A platform without tables and with a checkpoint folder of its own."""
    empty_tables.remove_all(spark, services)
    return services.model_copy(update={"checkpoints": str(tmp_path / "checkpoints")})


@pytest.fixture
def lake(spark: SparkSession, empty: Platform, schema_id: int) -> Lake:
    return Lake(spark, empty, schema_id)
