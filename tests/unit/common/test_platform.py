"""What a process is told of its services, and what it refuses."""

import pytest

from k2.common.platform import Platform
from k2.common.validation_errors import InvalidSpec


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("K2_WAREHOUSE", "s3a://k2/warehouse", "must begin with s3:// for a bucket"),
        ("K2_CHECKPOINTS", "s3://k2/checkpoints", "must begin with s3a:// for a bucket"),
        ("K2_S3_ENDPOINT", "minio:9000", "must be a URL that begins with http:// or https://"),
        ("K2_S3_PATH_STYLE", "perhaps", "bool"),
    ],
)
def test_a_bucket_that_cannot_be_is_refused_by_the_variables_name(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, told: str
):
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidSpec) as refused:
        Platform.read()
    assert str(refused.value).startswith(variable)
    assert told in str(refused.value)


def test_a_bucket_is_told_by_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("K2_WAREHOUSE", "s3://k2/warehouse")
    monkeypatch.setenv("K2_CHECKPOINTS", "s3a://k2/checkpoints")
    monkeypatch.setenv("K2_S3_ENDPOINT", "")
    monkeypatch.setenv("K2_S3_REGION", "eu-west-1")
    monkeypatch.setenv("K2_S3_PATH_STYLE", "false")
    found = Platform.read()
    assert (found.warehouse, found.checkpoints) == ("s3://k2/warehouse", "s3a://k2/checkpoints")
    assert (found.s3_endpoint, found.s3_region, found.s3_path_style) == ("", "eu-west-1", False)
