"""Where the shared services are: what every K2 process is told by its environment, `K2_...`, and by nothing else."""

from typing import Final, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

BOOTSTRAP: Final = "127.0.0.1:9092"
REGISTRY: Final = "http://127.0.0.1:8081"


class Platform(BaseSettings):
    """The services that ingest, jobs and queries share."""

    model_config = SettingsConfigDict(env_prefix="K2_", frozen=True)

    kafka_bootstrap: str = Field(BOOTSTRAP, description="host:port, comma separated")
    registry_url: str = Field(REGISTRY, description="a Confluent-compatible schema registry")
    catalog_uri: str = Field(
        "sqlite:///catalog.db", description="the Iceberg catalog: sqlite:///FILE or postgresql://..."
    )
    catalog_user: str = ""
    catalog_password: SecretStr = SecretStr("")
    warehouse: str = Field("warehouse", description="file:/DIR or s3://BUCKET/PREFIX")
    checkpoints: str = Field("checkpoints", description="a folder or s3a://BUCKET/PREFIX; one folder a query")
    log_format: Literal["json", "console"] = "json"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
