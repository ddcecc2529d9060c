"""Spark's settings that depend on the platform. The rest is the jobs' own (`k2.jobs.session`). No secret is in here."""

from typing import Final
from urllib.parse import urlsplit

from k2.operator.desired.sizes import Sizes
from k2.operator.settings import Settings
from k2.schemas.tables import CATALOG

_S3A: Final = "spark.hadoop.fs.s3a"
_CATALOG: Final = f"spark.sql.catalog.{CATALOG}"


def spark_conf(settings: Settings, size: Sizes) -> dict[str, str]:
    """The settings, sorted by name. What K2 needs wins over what the platform adds."""
    found = dict(settings.spark_conf) | {
        "spark.dynamicAllocation.enabled": "false",  # it fights micro-batches
        "spark.kubernetes.driver.podTemplateContainerName": "spark-kubernetes-driver",
        "spark.kubernetes.executor.podTemplateContainerName": "spark-kubernetes-executor",
    }
    if not size.executors:
        found["spark.kubernetes.driver.master"] = f"local[{size.driver.cores}]"
    if urlsplit(settings.warehouse).scheme == "s3":
        found |= _tables_in_s3(settings)
    if urlsplit(settings.checkpoints).scheme == "s3a":
        found |= _files_in_s3(settings)
    return dict(sorted(found.items()))


def _tables_in_s3(settings: Settings) -> dict[str, str]:
    found = {
        f"{_CATALOG}.io-impl": "org.apache.iceberg.aws.s3.S3FileIO",
        f"{_CATALOG}.client.region": settings.s3_region,
        f"{_CATALOG}.s3.path-style-access": _text(settings.s3_path_style),
    }
    return found | ({f"{_CATALOG}.s3.endpoint": settings.s3_endpoint} if settings.s3_endpoint else {})


def _files_in_s3(settings: Settings) -> dict[str, str]:
    found = {f"{_S3A}.endpoint.region": settings.s3_region, f"{_S3A}.path.style.access": _text(settings.s3_path_style)}
    if settings.s3_endpoint:
        tls = _text(not settings.s3_endpoint.startswith("http:"))
        found |= {f"{_S3A}.endpoint": settings.s3_endpoint, f"{_S3A}.connection.ssl.enabled": tls}
    return found


def _text(value: bool) -> str:
    return "true" if value else "false"
