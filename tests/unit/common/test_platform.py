"""Platform settings from the environment."""

import pytest

from k2.common.platform import Platform
from k2.common.validation_errors import InvalidSpec


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("K2_WAREHOUSE", "s3a://k2/warehouse", "must begin with s3:// for a bucket"),
        ("K2_CHECKPOINTS", "s3://k2/checkpoints", "must begin with s3a:// for a bucket"),
        ("K2_S3_ENDPOINT", "minio:9000", "must be a URL that begins with http:// or https://"),
        ("K2_S3_PATH_STYLE", "perhaps", "bool"),
    ],
)
def test_an_invalid_bucket_url_is_rejected_with_the_variables_name(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str
):
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidSpec) as refused:
        Platform.read()
    assert str(refused.value).startswith(variable)
    assert message in str(refused.value)


def test_bucket_settings_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("K2_WAREHOUSE", "s3://k2/warehouse")
    monkeypatch.setenv("K2_CHECKPOINTS", "s3a://k2/checkpoints")
    monkeypatch.setenv("K2_S3_ENDPOINT", "")
    monkeypatch.setenv("K2_S3_REGION", "eu-west-1")
    monkeypatch.setenv("K2_S3_PATH_STYLE", "false")
    platform = Platform.read()
    assert (platform.warehouse, platform.checkpoints) == ("s3://k2/warehouse", "s3a://k2/checkpoints")
    assert (platform.s3_endpoint, platform.s3_region, platform.s3_path_style) == ("", "eu-west-1", False)
