"""The same tables in both types of catalogs: created, written by all layers, audited, queried and purged."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from pyspark.sql import SparkSession

from k2.common.catalog.connection import CatalogType
from k2.common.platform import Platform
from k2.jobs import initialise
from k2.jobs.audit import runner
from k2.jobs.commit.commit_log import CommitLog
from k2.jobs.purge import Purge
from k2.jobs.spark.session import settings
from k2.query.engine import Engine
from k2.query.errors import Unavailable
from k2.schemas.channels import CHANNELS, TRADES, shared_tables
from k2.schemas.feed.model import ExchangeFeed
from k2.schemas.tables import CATALOG, NAMESPACE
from tests import seaweedfs
from tests.spark.builders import HOUR, Lake, Record, consecutive, drop_tables

pytestmark = [pytest.mark.spark, pytest.mark.skipif(not seaweedfs.WEED, reason=seaweedfs.MISSING)]

JOBS, READER = ("k2-jobs", "secret-of-jobs"), ("k2-query", "secret-of-query")
ACTIONS = {
    "jobs": ["Read:lake", "Write:lake", "List:lake", "s3tables:*:lake"],
    "query": ["Read:lake", "List:lake", "s3tables:Get*:lake", "s3tables:List*:lake"],
}
_OF_S3A = "fs.s3a.access.key", "fs.s3a.secret.key"
_OF_SDK = "aws.accessKeyId", "aws.secretAccessKey"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[seaweedfs.SeaweedFS]:
    folder = tmp_path_factory.mktemp("weed")
    users = {"jobs": (*JOBS, ACTIONS["jobs"]), "query": (*READER, ACTIONS["query"])}
    (folder / "identities.json").write_text(seaweedfs.identities(users))
    words = "mini -tableBucket=lake -webdav=false -admin.ui=false -s3.port.lance=0 -master.telemetry=false".split()
    with seaweedfs.running(folder / "data", folder / "identities.json", words) as running:
        yield running


def rest(server: seaweedfs.SeaweedFS, user: tuple[str, str], services: Platform) -> Platform:
    """Return the settings of a client of the REST catalog."""
    return services.model_copy(
        update={
            "catalog_type": CatalogType.REST,
            "catalog_uri": server.catalog,
            "catalog_user": user[0],
            "catalog_password": Platform(catalog_password=user[1]).catalog_password,
            "warehouse": "s3://lake",
            "s3_endpoint": server.s3,
        }
    )


@pytest.fixture
def rest_session(server: seaweedfs.SeaweedFS, spark: SparkSession, services: Platform) -> Iterator[SparkSession]:
    """A session whose catalog is the REST catalog, in the JVM of the others."""
    system, hadoop = spark._jvm.java.lang.System, spark._jsc.hadoopConfiguration()
    conf = settings(rest(server, JOBS, services))
    for name, value in [*zip(_OF_SDK, JOBS, strict=True)]:
        system.setProperty(name, value)
    for name, value in [*zip(_OF_S3A, JOBS, strict=True), *conf.items()]:
        hadoop.set(name.removeprefix("spark.hadoop."), value)
    session = spark.newSession()
    for name, value in conf.items():
        if name.startswith(f"spark.sql.catalog.{CATALOG}"):
            session.conf.set(name, value)
    yield session
    for name in _OF_SDK:
        system.clearProperty(name)


@pytest.fixture(params=["jdbc", "rest"])
def clients(
    request: pytest.FixtureRequest, empty: Platform, schema_id: int, monkeypatch: pytest.MonkeyPatch
) -> tuple[Lake, Platform]:
    """A lake without tables, and the settings of a client that may only read it."""
    if request.param == "jdbc":
        return Lake(request.getfixturevalue("spark"), empty, schema_id), empty
    server, session = request.getfixturevalue("server"), request.getfixturevalue("rest_session")
    drop_tables(session)
    for name, value in zip(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), READER, strict=True):
        monkeypatch.setenv(name, value)
    return Lake(session, rest(server, JOBS, empty), schema_id), rest(server, READER, empty)


def test_trades_pass_all_layers_and_the_audit_and_are_queried_and_purged(clients: tuple[Lake, Platform]):
    lake, reader = clients
    initialise.initialise(lake.spark)
    rows = lake.spark.sql(f"SHOW TABLES IN {CATALOG}.{NAMESPACE}").collect()
    assert {row["tableName"] for row in rows} == {table.name for table in shared_tables(CHANNELS)}

    feed = lake.feed()
    lake.arrive(feed, [*consecutive(1, 3), Record(b"bad")])
    lake.run(feed, "silver", "gold")
    CommitLog(lake.spark, [feed]).record()
    assert runner.audit(lake.spark, lake.platform, now=HOUR + timedelta(days=1)).findings == []

    engine = Engine(reader)
    try:
        assert _ids(engine) == ["1", "2", "3"]
        assert engine.sql("SELECT max(price) AS price FROM gold_crypto_trades").num_rows == 1
        lake.arrive(feed, consecutive(4, 4))
        lake.run(feed, "silver", "gold")
        assert _ids(engine) == ["1", "2", "3", "4"]
    finally:
        engine.close()

    _purge(lake, feed)


def _ids(engine: Engine) -> list[str]:
    trades: Any = engine.trades(symbol="BTCUSDT", start=HOUR, end=HOUR + timedelta(hours=1))
    return sorted(trades.column("trade_id").to_pylist())


def _purge(lake: Lake, feed: ExchangeFeed) -> None:
    """Purge the exchange, and expect neither tables nor files of it."""
    bronze = TRADES.bronze("binance")
    history = lake.spark.table(f"{bronze.identifier}.files").select("file_path").collect()
    files = lake.spark._jvm.org.apache.hadoop.fs.Path
    paths = [files(row[0].replace("s3://", "s3a://")) for row in history]
    file_system = paths[0].getFileSystem(lake.spark._jsc.hadoopConfiguration())
    assert file_system.exists(paths[0])
    removed = Purge(lake.spark, lake.platform, feed, exchange=True).run()
    assert removed[bronze.name] == "dropped"
    assert not lake.spark.catalog.tableExists(bronze.identifier)
    assert not any(file_system.exists(path) for path in paths)


def test_a_reader_without_the_right_secret_is_refused_with_a_sentence(server: seaweedfs.SeaweedFS, services: Platform):
    with pytest.raises(Unavailable, match=r"the catalog http://.* cannot be read: .*[Ii]nvalid"):
        Engine(rest(server, (READER[0], "wrong"), services))
    gone = services.model_copy(
        update={"catalog_type": CatalogType.REST, "catalog_uri": "http://127.0.0.1:9", "warehouse": "s3://l"}
    )
    with pytest.raises(Unavailable, match=r"the catalog http://127.0.0.1:9 cannot be read"):
        Engine(gone)
