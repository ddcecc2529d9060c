"""Spark's settings for local disks and for buckets."""

import pytest

from k2.common.platform import Platform
from k2.jobs.spark.session import credentials, settings

BUCKET = {"warehouse": "s3://k2/warehouse", "checkpoints": "s3a://k2/checkpoints"}


def s3(**options: object) -> dict[str, str]:
    conf = settings(Platform.read(**options))
    return {name: value for name, value in conf.items() if "s3" in f"{name}={value}" or "region" in name}


@pytest.mark.parametrize(("endpoint", "tls"), [("http://minio:9000", "false"), ("https://s3.example", "true")])
def test_tables_and_checkpoints_in_a_bucket(endpoint: str, tls: str):
    assert s3(**BUCKET, s3_endpoint=endpoint, s3_region="eu-west-1") == {
        "spark.sql.catalog.lake.warehouse": "s3://k2/warehouse",
        "spark.sql.catalog.lake.io-impl": "org.apache.iceberg.aws.s3.S3FileIO",
        "spark.sql.catalog.lake.client.region": "eu-west-1",
        "spark.sql.catalog.lake.s3.path-style-access": "true",
        "spark.sql.catalog.lake.s3.endpoint": endpoint,
        "spark.hadoop.fs.s3a.endpoint.region": "eu-west-1",
        "spark.hadoop.fs.s3a.path.style.access": "true",
        "spark.hadoop.fs.s3a.endpoint": endpoint,
        "spark.hadoop.fs.s3a.connection.ssl.enabled": tls,
    }


def test_amazon_needs_no_endpoint():
    conf = s3(**BUCKET, s3_path_style=False)
    assert not any(name.endswith(".endpoint") or "ssl" in name for name in conf)
    assert conf["spark.sql.catalog.lake.s3.path-style-access"] == "false"
    assert conf["spark.hadoop.fs.s3a.path.style.access"] == "false"


def test_local_paths_have_no_s3_settings():
    endpoint = "http://minio:9000"
    assert s3(warehouse="file:/data/w", checkpoints="/data/c", s3_endpoint=endpoint) == {}
    files = s3(warehouse="file:/data/w", checkpoints="s3a://k2/c", s3_endpoint=endpoint)
    assert files
    assert all(name.startswith("spark.hadoop.fs.s3a.") for name in files)


def test_hadoop_can_access_the_bucket_of_the_tables():
    conf = s3(warehouse="s3://k2/w", checkpoints="/data/c", s3_endpoint="http://minio:9000")
    assert conf["spark.hadoop.fs.s3a.endpoint"] == conf["spark.sql.catalog.lake.s3.endpoint"] == "http://minio:9000"


def test_a_bucket_uses_the_default_checkpoint_manager():
    key = "spark.sql.streaming.checkpointFileManagerClass"
    assert key in settings(Platform.read(checkpoints="/data/c"))
    assert key not in settings(Platform.read(**BUCKET))


def test_products_of_wide_decimals_are_not_rounded():
    assert settings(Platform.read(), master="local[2]")["spark.sql.decimalOperations.allowPrecisionLoss"] == "false"


def test_a_rest_catalog_has_no_settings_of_a_database_and_its_secret_is_on_no_command_line():
    conf = settings(
        Platform.read(
            **BUCKET, catalog_type="rest", catalog_uri="https://catalog", catalog_user="k2", catalog_password="word"
        )
    )
    key = "spark.sql.catalog.lake"
    assert conf[f"{key}.catalog-impl"] == "org.apache.iceberg.rest.RESTCatalog"
    assert (conf[f"{key}.uri"], conf[f"{key}.warehouse"]) == ("https://catalog", "s3://k2/warehouse")
    assert conf[f"{key}.io-impl"] == "org.apache.iceberg.aws.s3.S3FileIO"
    assert not [name for name in conf if "jdbc" in name]
    assert credentials(conf) == {name for name, value in conf.items() if "word" in value} == {f"{key}.credential"}


def test_the_password_of_a_database_is_on_no_command_line():
    conf = settings(Platform.read(catalog_uri="postgresql://db/iceberg", catalog_user="k2", catalog_password="word"))
    assert credentials(conf) == {name for name, value in conf.items() if "word" in value} != set()
