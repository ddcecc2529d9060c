"""The Spark session and its settings: Iceberg catalog, time zone, streaming defaults."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from pyspark.sql import SparkSession

from k2.common.catalog import address
from k2.common.catalog.connection import CatalogType
from k2.common.platform import Platform
from k2.schemas.tables import CATALOG

_CATALOG_KEY: Final = f"spark.sql.catalog.{CATALOG}"
_S3A: Final = "spark.hadoop.fs.s3a"
_CREDENTIALS: Final = ("jdbc.password", "credential", "token")


def settings(platform: Platform, *, master: str | None = None) -> dict[str, str]:
    """Return Spark's configuration for these services. Leave out `master` where a cluster sets it.

    Raises `OSError` naming the file of the catalog's token.
    """
    conf = {
        "spark.app.name": "k2",
        "spark.sql.session.timeZone": "UTC",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.defaultCatalog": CATALOG,
        "spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
        # Products of prices and quantities keep all of their digits.
        "spark.sql.decimalOperations.allowPrecisionLoss": "false",
        # Micro-batches are small: adaptive planning costs more than it saves.
        "spark.sql.adaptive.enabled": "false",
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.streaming.metricsEnabled": "false",
        # Recording call sites costs several calls into the JVM for each column expression.
        "spark.sql.dataFrameQueryContext.enabled": "false",
        "spark.python.sql.dataFrameDebugging.enabled": "false",
        # Results come over a socket in the file system: a client that reconnects to a port of a server that is gone may
        # reach Spark's at that port, which accepts one connection, and the result would be lost.
        "spark.python.unix.domain.socket.enabled": "true",
        "spark.sql.streaming.minBatchesToRetain": "100",
        "spark.sql.streaming.stopTimeout": "30s",
        "spark.cleaner.periodicGC.interval": "10min",
        # Iceberg checks the rows themselves; the DataFrame's nullability is Avro's, not the table's.
        "spark.sql.iceberg.check-nullability": "false",
        **_catalog(platform),
    }
    if "://" not in platform.checkpoints or platform.checkpoints.startswith("file:"):
        # On a local disk Hadoop and Spark's default manager of checkpoints start a process for each file, to set its
        # permissions. This class sets them itself.
        conf["spark.hadoop.fs.file.impl"] = "com.globalmentor.apache.hadoop.fs.BareLocalFileSystem"
        manager = "org.apache.spark.sql.execution.streaming.checkpointing.FileSystemBasedCheckpointFileManager"
        conf["spark.sql.streaming.checkpointFileManagerClass"] = manager
    if uses_s3(platform):
        conf |= _s3a(platform)
    if master is not None:
        conf |= {"spark.master": master, "spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
    return conf


def credentials(conf: Mapping[str, str]) -> set[str]:
    """Return the settings that hold a secret, which no command line may show."""
    return {f"{_CATALOG_KEY}.{name}" for name in _CREDENTIALS} & conf.keys()


def _catalog(platform: Platform) -> dict[str, str]:
    conf = {
        _CATALOG_KEY: "org.apache.iceberg.spark.SparkCatalog",
        # A cached table may lack the newest commit, which the lookup of duplicates must see.
        f"{_CATALOG_KEY}.cache-enabled": "false",
        **(_rest(platform) if platform.catalog_type is CatalogType.REST else _jdbc(platform)),
    }
    return conf | _s3(platform) if tables_in_s3(platform) else conf


def _rest(platform: Platform) -> dict[str, str]:
    """Return the settings of a REST catalog. Files are read and written with K2's own keys, not with the catalog's."""
    return {
        f"{_CATALOG_KEY}.catalog-impl": "org.apache.iceberg.rest.RESTCatalog",
        f"{_CATALOG_KEY}.rest-metrics-reporting-enabled": "false",
        **{f"{_CATALOG_KEY}.{name}": value for name, value in platform.catalog.rest_properties().items()},
    }


def _jdbc(platform: Platform) -> dict[str, str]:
    conf = {
        f"{_CATALOG_KEY}.catalog-impl": "org.apache.iceberg.jdbc.JdbcCatalog",
        f"{_CATALOG_KEY}.uri": address.jdbc(platform.catalog_uri),
        f"{_CATALOG_KEY}.jdbc.schema-version": "V1",
        f"{_CATALOG_KEY}.jdbc.initialize": "true",
        f"{_CATALOG_KEY}.warehouse": platform.warehouse,
    }
    if platform.catalog_uri.startswith("sqlite:"):
        # Concurrent writers of the SQLite file wait instead of failing.
        conf |= {f"{_CATALOG_KEY}.jdbc.busy_timeout": "30000", f"{_CATALOG_KEY}.jdbc.journal_mode": "WAL"}
    user, password = address.credentials(platform.catalog_uri)
    if platform.catalog_user:
        user, password = platform.catalog_user, platform.catalog_password.get_secret_value()
    if user:
        conf |= {f"{_CATALOG_KEY}.jdbc.user": user, f"{_CATALOG_KEY}.jdbc.password": password}
    return conf


def tables_in_s3(platform: Platform) -> bool:
    """Whether tables are in a bucket."""
    return urlsplit(platform.warehouse).scheme == "s3"


def uses_s3(platform: Platform) -> bool:
    """Whether tables or checkpoints are in a bucket."""
    return tables_in_s3(platform) or urlsplit(platform.checkpoints).scheme == "s3a"


def _s3(platform: Platform) -> dict[str, str]:
    """Return the settings of Iceberg's S3 client. Credentials come from AWS variables or the pod's identity."""
    conf = {
        f"{_CATALOG_KEY}.io-impl": "org.apache.iceberg.aws.s3.S3FileIO",
        f"{_CATALOG_KEY}.client.region": platform.s3_region,
        f"{_CATALOG_KEY}.s3.path-style-access": _text(platform.s3_path_style),
    }
    return conf | ({f"{_CATALOG_KEY}.s3.endpoint": platform.s3_endpoint} if platform.s3_endpoint else {})


def _s3a(platform: Platform) -> dict[str, str]:
    """Return the settings of Hadoop's S3 client, for Spark's checkpoints and for deleting folders of tables."""
    conf = {
        f"{_S3A}.endpoint.region": platform.s3_region,
        f"{_S3A}.path.style.access": _text(platform.s3_path_style),
    }
    if platform.s3_endpoint:
        tls = _text(urlsplit(platform.s3_endpoint).scheme == "https")
        conf |= {f"{_S3A}.endpoint": platform.s3_endpoint, f"{_S3A}.connection.ssl.enabled": tls}
    return conf


def _text(value: bool) -> str:
    return "true" if value else "false"


def session(conf: Mapping[str, str]) -> SparkSession:
    """Return the session of this process, in the JVM that `k2.jobs.spark.jvm.gateway` or the cluster started."""
    builder = SparkSession.builder
    for key, value in conf.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("WARN")
    return spark
