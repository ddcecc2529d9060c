"""Connection settings of the shared services, read from `K2_...` environment variables only."""

from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from k2.common.catalog import address
from k2.common.catalog.connection import CatalogConnection, CatalogType
from k2.common.kafka_connection import KafkaConnection, SecurityProtocol
from k2.common.registry_connection import RegistryConnection
from k2.common.validation_errors import InvalidSpec, Problem, from_pydantic

BOOTSTRAP: Final = "127.0.0.1:9092"
REGISTRY: Final = "http://127.0.0.1:8081"


def _http(value: str) -> str:
    if urlsplit(value).scheme not in {"http", "https"} or not urlsplit(value).hostname:
        raise ValueError("must be a URL that begins with http:// or https://")
    return value


def _endpoint(value: str) -> str:
    return _http(value) if value else value


def _tables(value: str) -> str:
    if urlsplit(value).scheme in {"s3a", "s3n"}:
        raise ValueError("must begin with s3:// for a bucket: tables are written by Iceberg itself")
    return value


def _files(value: str) -> str:
    if urlsplit(value).scheme in {"s3", "s3n"}:
        raise ValueError("must begin with s3a:// for a bucket: checkpoints are written by Hadoop")
    return value


class Platform(BaseSettings):
    """Addresses and credentials of Kafka, the schema registry, the catalog and object storage."""

    model_config = SettingsConfigDict(env_prefix="K2_", frozen=True)

    kafka_bootstrap: str = Field(BOOTSTRAP, description="host:port, comma separated")
    kafka_security_protocol: SecurityProtocol = Field(
        SecurityProtocol.PLAINTEXT, description="PLAINTEXT, SSL, or SASL_SSL with SCRAM-SHA-512"
    )
    kafka_ca_file: str = Field("", description="certificate authorities of the brokers (PEM)")
    kafka_certificate_file: str = Field("", description="certificate of the client (PEM), for SSL")
    kafka_key_file: str = Field("", description="its key (PEM, PKCS #8, not encrypted)")
    kafka_username: str = Field("", description="for SASL_SSL")
    kafka_password_file: str = Field("", description="file of the password, for SASL_SSL")
    registry_url: Annotated[str, AfterValidator(_http)] = Field(
        REGISTRY, description="a Confluent-compatible schema registry"
    )
    registry_ca_file: str = Field("", description="its certificate authorities (PEM); empty: those of the system")
    registry_username: str = ""
    registry_password_file: str = Field("", description="file of the user's password")
    registry_token_file: str = Field("", description="file of a bearer token, instead of a user")
    catalog_type: CatalogType = Field(CatalogType.JDBC, description="jdbc: a database; rest: a REST catalog")
    catalog_uri: Annotated[str, AfterValidator(address.check)] = Field(
        "sqlite:///catalog.db",
        description="the Iceberg catalog: sqlite:///FILE or postgresql://..., or the URL of a REST catalog",
    )
    catalog_user: str = Field("", description="of the database, or the client's id for OAuth2")
    catalog_password: SecretStr = Field(SecretStr(""), description="of the database, or the client's secret")
    catalog_token_file: str = Field("", description="file of a bearer token for a REST catalog, instead of a user")
    catalog_oauth2_uri: Annotated[str, AfterValidator(_endpoint)] = Field(
        "", description="where a client gets its token; empty: from the REST catalog itself"
    )
    catalog_scope: str = Field("", description="of the token; empty: the clients' default, catalog")
    catalog_warehouse: str = Field("", description="name of the warehouse in a REST catalog; empty: K2_WAREHOUSE")
    catalog_ca_file: str = Field("", description="certificate authorities of a REST catalog (PEM); empty: the system's")
    warehouse: Annotated[str, AfterValidator(_tables)] = Field(
        "warehouse", description="file:/DIR or s3://BUCKET/PREFIX"
    )
    checkpoints: Annotated[str, AfterValidator(_files)] = Field(
        "checkpoints", description="a folder or s3a://BUCKET/PREFIX; one sub-folder per streaming query"
    )
    s3_endpoint: Annotated[str, AfterValidator(_endpoint)] = Field("", description="a URL; empty: Amazon's")
    s3_region: str = "us-east-1"
    s3_ca_file: str = Field("", description="certificate authorities of the store (PEM); empty: the system's")
    s3_path_style: bool = Field(True, description="put the bucket in the URL's path, not in its host name")
    log_format: Literal["json", "console"] = "json"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @classmethod
    def read(cls, **overrides: Any) -> "Platform":
        """Read the settings from the environment; `overrides` take precedence.

        Raises `InvalidSpec` if a value is not valid; each problem names its environment variable.
        """
        try:
            platform = cls(**overrides)
        except ValidationError as error:
            problems = [
                Problem(f"K2_{problem.path.upper()}", problem.value, problem.allowed)
                for problem in from_pydantic(error)
            ]
            raise InvalidSpec(problems) from None
        connections = (platform.kafka, platform.registry, platform.catalog)
        contradictions = [problem for each in connections for problem in each.problems()]
        if platform.s3_ca_file and urlsplit(platform.s3_endpoint).scheme == "http":
            allowed = "used only with https://: make K2_S3_ENDPOINT that, or remove it"
            contradictions.append(Problem("K2_S3_CA_FILE", platform.s3_ca_file, allowed))
        if contradictions:
            raise InvalidSpec(contradictions)
        return platform

    @property
    def registry(self) -> RegistryConnection:
        """How to reach the schema registry."""
        return RegistryConnection(
            self.registry_url,
            ca_file=self.registry_ca_file,
            username=self.registry_username,
            password_file=self.registry_password_file,
            token_file=self.registry_token_file,
        )

    @property
    def ca_files(self) -> tuple[str, ...]:
        """The certificate authorities that a JVM's clients of store and catalog trust, besides the system's."""
        return tuple(dict.fromkeys(file for file in (self.s3_ca_file, self.catalog_ca_file) if file))

    @property
    def catalog(self) -> CatalogConnection:
        """How to reach the Iceberg catalog."""
        return CatalogConnection(
            self.catalog_type,
            self.catalog_uri,
            self.warehouse,
            warehouse=self.catalog_warehouse,
            user=self.catalog_user,
            password=self.catalog_password.get_secret_value(),
            token_file=self.catalog_token_file,
            oauth2_uri=self.catalog_oauth2_uri,
            scope=self.catalog_scope,
            ca_file=self.catalog_ca_file,
        )

    @property
    def kafka(self) -> KafkaConnection:
        """How to reach Kafka."""
        return KafkaConnection(
            self.kafka_bootstrap,
            self.kafka_security_protocol,
            ca_file=self.kafka_ca_file,
            certificate_file=self.kafka_certificate_file,
            key_file=self.kafka_key_file,
            username=self.kafka_username,
            password_file=self.kafka_password_file,
        )
