"""Settings of the operator: from a YAML file that the chart mounts, and from `K2_OPERATOR_...` variables.

A variable takes precedence over the file. The caller reads both; here they are text and a mapping.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from k2.common.catalog import address
from k2.common.kafka_connection import SecurityProtocol
from k2.common.validation_errors import ABSENT, InvalidSpec, Problem, from_pydantic
from k2.common.yaml_loader import load_document
from k2.operator import quantities
from k2.schemas.values import seconds

PREFIX: Final = "K2_OPERATOR_"

_NAME: Final = r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$"
_SECRET: Final = r"^([a-z0-9]([-.a-z0-9]*[a-z0-9])?)?$"  # noqa: S105 - the pattern of a Secret's name
_KEY: Final = r"^[-._a-zA-Z0-9]+$"
_OWN_LABELS: Final = ("app.kubernetes.io/", "k2.marketdata.io/", "spark-", "sparkoperator.k8s.io/")
_USERNAME: Final = r"^[-._@a-zA-Z0-9]*$"


class InvalidSettings(ValueError):
    """Invalid settings. The message has a line for each, with what to set."""


def _no_credentials(value: str) -> str:
    parts = urlsplit(value)
    if parts.username or parts.password:
        raise ValueError("must not hold a user name or password; name a Secret instead")
    return value


def _url(*schemes: str) -> AfterValidator:
    def check(value: str) -> str:
        if urlsplit(value).scheme not in schemes:
            raise ValueError(f"must begin with {' or '.join(f'{scheme}:' for scheme in schemes)}")
        return _no_credentials(value).rstrip("/")

    return AfterValidator(check)


def _proxy(value: str) -> str:
    parts = urlsplit(value)
    if value and (parts.scheme not in {"http", "https"} or not parts.hostname):
        raise ValueError("must be a URL that begins with http:// or https://, with a host")
    if parts.username or parts.password:
        raise ValueError("must not hold a user name or password: everyone who may read pods would see it")
    return value


def _bootstrap(value: str) -> str:
    for server in value.split(","):
        host, _, port = server.strip().rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 2**16:
            raise ValueError("must be host:port, or a comma-separated list of them")
    return value


def _memory(value: str) -> str:
    quantities.mebibytes(value)
    return value


def _cpu(value: str) -> str:
    quantities.cores(value)
    return value


def _pinned(value: str) -> str:
    if value.endswith(":latest"):
        raise ValueError("must have a version tag or a digest: the image behind latest changes without a rollout")
    return value


def _extra_labels(labels: dict[str, str]) -> dict[str, str]:
    if taken := [name for name in labels if name.startswith(_OWN_LABELS)]:
        raise ValueError(f"{taken[0]} is K2's own: pods are selected by it; choose another label")
    return labels


def _extra_variables(variables: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
    if unnamed := [variable for variable in variables if not isinstance(variable.get("name"), str)]:
        raise ValueError(f"{unnamed[0]} has no name")
    return variables


def _duration(value: str) -> str:
    seconds(value)
    return value


Image = Annotated[
    str,
    Field(pattern=r"^[^\s]+[:@][^\s/]+$", description="with a tag other than latest, or with a digest"),
    AfterValidator(_pinned),
]
Name = Annotated[str, Field(pattern=_NAME, max_length=63)]
SecretName = Annotated[str, Field(pattern=_SECRET, max_length=253)]
Key = Annotated[str, Field(pattern=_KEY, max_length=253)]
OptionalKey = Annotated[str, Field(pattern=r"^[-._a-zA-Z0-9]*$", max_length=253)]
Username = Annotated[str, Field(pattern=_USERNAME, max_length=253)]
RolloutState = Annotated[str, AfterValidator(_memory)]
Cpu = Annotated[str, AfterValidator(_cpu)]
Duration = Annotated[str, AfterValidator(_duration)]
Port = Annotated[int, Field(ge=0, lt=2**16)]


class Settings(BaseModel):
    """The platform that feeds run on. In the file `ingestImage`, in the environment `K2_OPERATOR_INGEST_IMAGE`."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)

    ingest_image: Image
    jobs_image: Image
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    image_pull_secrets: tuple[SecretName, ...] = ()

    kafka_bootstrap: Annotated[str, AfterValidator(_bootstrap)]
    kafka_cluster: Name = Field("", description="Strimzi's Kafka object; empty: topics are not managed by K2")
    kafka_namespace: Name = Field(
        "", description="the namespace that Strimzi watches for KafkaTopics; empty: the feed's"
    )
    kafka_topic_version: str = Field("v1", pattern=r"^v[0-9]+((alpha|beta)[0-9]+)?$")
    kafka_replicas: int = Field(0, ge=0, le=32767, description="of new topics; 0: the brokers' default")

    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_SSL"] = Field(
        "PLAINTEXT",
        description="PLAINTEXT, SSL, or SASL_SSL with SCRAM-SHA-512; the Secrets are in the feeds' namespaces",
    )
    kafka_ca_secret: SecretName = Field("", description="Secret with the certificate authorities of the brokers")
    kafka_ca_key: Key = Field("ca.crt", description="key of the certificate authorities in the Secret (PEM)")
    kafka_ingest_secret: SecretName = Field(
        "", description="Secret with the ingest's password, or for SSL its certificate and key"
    )
    kafka_ingest_user: Username = Field("", description="user name of the ingest; empty: the name of its Secret")
    kafka_jobs_secret: SecretName = Field(
        "", description="Secret with the Spark jobs' password, or for SSL their certificate and key"
    )
    kafka_jobs_user: Username = Field("", description="user name of the jobs; empty: the name of their Secret")
    kafka_password_key: Key = Field("password", description="key of the password in both Secrets, for SASL_SSL")
    kafka_certificate_key: Key = Field("user.crt", description="key of the certificate in both Secrets, for SSL (PEM)")
    kafka_private_key_key: Key = Field(
        "user.key", description="key of the private key in both Secrets, for SSL (PEM, PKCS #8, not encrypted)"
    )

    registry_url: Annotated[str, _url("http", "https")]
    registry_pod_port: Port = Field(0, description="the container port of the registry; 0: the URL's port")

    catalog_type: Literal["jdbc", "rest"] = Field("jdbc", description="jdbc: PostgreSQL; rest: a REST catalog")
    catalog_uri: Annotated[
        str,
        _url("postgresql", "postgresql+psycopg2", "postgresql+psycopg", "http", "https"),
        AfterValidator(address.check),
    ]
    catalog_secret: SecretName = ""
    catalog_user_key: Key = "username"
    catalog_password_key: Key = "password"  # noqa: S105 - the name of a key
    catalog_token_key: OptionalKey = Field(
        "",
        description="key of a bearer token in catalogSecret, for a REST catalog; empty: the Secret has the id and the "
        "secret of an OAuth2 client",
    )
    catalog_oauth2_uri: Annotated[str, AfterValidator(_no_credentials)] = Field(
        "", description="where the OAuth2 client gets its token; empty: from the REST catalog itself"
    )
    catalog_scope: str = Field("", description="scope of that token; empty: catalog")
    catalog_warehouse: str = Field("", description="name of the warehouse in a REST catalog; empty: warehouse")

    warehouse: Annotated[str, _url("s3", "file")]
    checkpoints: Annotated[str, _url("s3a", "file")]
    s3_endpoint: Annotated[str, AfterValidator(_no_credentials)] = Field("", description="empty: AWS")
    s3_region: str = "us-east-1"
    s3_path_style: bool = True
    s3_secret: SecretName = Field("", description="empty: the pods' workload identity")
    s3_access_key: Key = "access-key"
    s3_secret_key: Key = "secret-key"  # noqa: S105 - the name of a key

    egress_groups: dict[Name, Name] = Field(
        {},
        description="egress groups by namespace: the feeds of a group reach the exchanges from one address and share "
        "what they allow it; all namespaces that are not listed are one group",
    )

    allow_private_endpoints: bool = Field(
        False,
        description="whether feeds may name endpoints at private addresses, such as a simulator in the cluster; "
        "link-local addresses, where clouds serve credentials, are never allowed",
    )
    egress_ipv6: bool = Field(False, description="whether ingest pods reach the exchanges over IPv6 too")
    https_proxy: Annotated[str, AfterValidator(_proxy)] = Field(
        "", description="HTTP proxy through which ingest pods reach the exchanges; empty: directly"
    )
    no_proxy: str = Field(
        "", description="hosts that ingest pods reach without the proxy, comma-separated, as in NO_PROXY"
    )
    ca_config_map: SecretName = Field(
        "",
        description="ConfigMap with trusted certificate authorities in ca.crt, in the feeds' namespaces: those of "
        "exchanges, object store and REST catalog; empty: those of the image",
    )

    ingest_service_account: Name = "default"
    ingest_user: int = Field(10001, gt=0)
    ingest_cpu: Cpu = "100m"
    ingest_memory: RolloutState = "128Mi"
    ingest_memory_limit: RolloutState = "512Mi"

    spark_service_account: Name = "k2-spark"
    spark_user: int = Field(185, gt=0)
    spark_version: str = Field("4.1.3", pattern=r"^[0-9]+\.[0-9]+\.[0-9]+$")
    spark_conf: dict[str, str] = Field({}, description="additional Spark settings for every layer")
    jobs_main: str = Field("local:///opt/k2/jobs.py", pattern=r"^local:///[^\s]+\.py$")
    driver_memory: RolloutState = Field("1Gi", description="heap and non-heap memory of a driver; at least 896Mi")
    executor_memory: RolloutState = Field(
        "704Mi", description="heap and non-heap memory of an executor; at least 640Mi"
    )
    combined_memory: RolloutState = Field(
        "1536Mi", description="heap and non-heap memory of a driver that runs all three layers"
    )
    spark_cpu: Cpu = "100m"
    restart_interval: int = Field(30, ge=1, le=3600, description="seconds, times the attempts")
    rerun_stuck_after: Duration = Field(
        "5m", description="how long an application may stay in PENDING_RERUN before it is recreated"
    )
    rerun_cool_down: Duration = Field("30m", description="the minimum time between two recreations")

    deletion_deadline: Duration = Field(
        "15m", description="after which a deleted feed is released even if its data could not be purged"
    )

    monitor: Literal["PodMonitor", "ServiceMonitor", "None"] = "PodMonitor"
    monitor_interval: Duration = "15s"
    monitor_labels: dict[str, str] = {}
    pod_labels: Annotated[dict[str, str], AfterValidator(_extra_labels)] = Field(
        {}, description="additional labels of the feeds' pods"
    )
    pod_annotations: dict[str, str] = Field({}, description="additional annotations of the feeds' pods")
    node_selector: dict[str, str] = Field(
        {},
        description="labels of the nodes that may run the feeds' pods; a feed's placement replaces it",
    )
    tolerations: tuple[dict[str, Any], ...] = Field(
        (), description="taints that the feeds' pods tolerate; a feed's placement replaces them"
    )
    affinity: dict[str, Any] = Field({}, description="affinity of the feeds' pods; a feed's placement replaces it")
    topology_spread_constraints: tuple[dict[str, Any], ...] = Field(
        (),
        description="how the feeds' pods are spread, without a labelSelector those of one component; a feed's "
        "placement replaces them",
    )
    priority_class_name: SecretName = Field(
        "", description="PriorityClass of the feeds' pods; a feed's placement replaces it"
    )
    extra_env: Annotated[tuple[dict[str, Any], ...], AfterValidator(_extra_variables)] = Field(
        (), description="additional variables of the feeds' pods; they replace K2's of the same name"
    )
    extra_volumes: tuple[dict[str, Any], ...] = Field((), description="additional volumes of the feeds' pods")
    extra_volume_mounts: tuple[dict[str, Any], ...] = Field(
        (), description="where the feeds' containers have the additional volumes"
    )
    fixed_user_ids: bool = Field(
        True,
        description="whether the feeds' pods run as ingestUser and sparkUser; false: as the users that the cluster "
        "assigns, such as OpenShift",
    )
    pod_security_context: dict[str, Any] = Field(
        {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        description="security context of the feeds' pods",
    )
    container_security_context: dict[str, Any] = Field(
        {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        description="security context of the feeds' containers",
    )

    network_policy: bool = True
    api_server_ports: tuple[Port, ...] = Field(
        (443, 6443), description="ports of the API server and of its Service, for Spark drivers"
    )
    log_level: Literal["debug", "info", "warning", "error"] = "info"


def load(text: str | bytes | None, environment: Mapping[str, str]) -> Settings:
    """Merge a settings file's text with the environment and validate the result.

    Raises `InvalidSettings`, which reports every invalid setting.
    """
    try:
        settings = Settings.model_validate(_document(text) | _variables(environment))
    except InvalidSpec as error:
        raise InvalidSettings(_sentences(error.problems)) from None
    except ValidationError as error:
        raise InvalidSettings(_sentences(from_pydantic(error))) from None
    if problems := [*_missing_secrets(settings), *_contradictions(settings)]:
        raise InvalidSettings(_sentences(problems))
    return settings


def _missing_secrets(settings: Settings) -> Iterator[Problem]:
    """Yield the Secrets that the protocol to Kafka needs and that are not named."""
    protocol = SecurityProtocol(settings.kafka_security_protocol)
    users = {"kafka_ingest_secret": "ingest", "kafka_jobs_secret": "Spark jobs"}
    unnamed = {name: user for name, user in users.items() if not getattr(settings, name)}
    if protocol is not SecurityProtocol.PLAINTEXT and not settings.kafka_ca_secret:
        allowed = f"required with kafkaSecurityProtocol {protocol}: the Secret of the brokers' certificate authorities"
        yield Problem(to_camel("kafka_ca_secret"), ABSENT, allowed)
    if protocol is SecurityProtocol.SASL_SSL:
        for name, user in unnamed.items():
            allowed = f"required with kafkaSecurityProtocol {protocol}: the Secret of the password of the {user}"
            yield Problem(to_camel(name), ABSENT, allowed)
    elif protocol is SecurityProtocol.SSL and len(unnamed) == 1:
        ((name, user),) = unnamed.items()
        yield Problem(
            to_camel(name), ABSENT, f"required, because the other client has a certificate: that of the {user}"
        )


def _contradictions(settings: Settings) -> Iterator[Problem]:
    """Yield what does not fit the type of the catalog."""
    is_http = urlsplit(settings.catalog_uri).scheme in {"http", "https"}
    if is_http != (settings.catalog_type == "rest"):
        allowed = "postgresql:" if is_http else "http: or https:"
        allowed = f"must begin with {allowed}, because catalogType is {settings.catalog_type}"
        yield Problem(to_camel("catalog_uri"), settings.catalog_uri, allowed)
    for name in ("catalog_token_key", "catalog_oauth2_uri", "catalog_scope", "catalog_warehouse"):
        value = getattr(settings, name)
        if value and settings.catalog_type != "rest":
            yield Problem(to_camel(name), value, "used only with catalogType rest: set that, or remove it")
    if settings.catalog_token_key and not settings.catalog_secret:
        yield Problem("catalogSecret", ABSENT, "required with catalogTokenKey: the Secret of the token")


def _document(text: str | bytes | None) -> dict[str, Any]:
    if not text or not text.strip():
        return {}
    document = load_document(text)
    if not isinstance(document, dict):
        raise InvalidSpec([Problem("", document, "the settings file must contain one mapping")])
    return document


def _variables(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the variables that are settings. Others are ignored: Kubernetes adds K2_OPERATOR_SERVICE_HOST itself."""
    values: dict[str, Any] = {}
    for name, field in Settings.model_fields.items():
        text = environment.get(variable(name))
        if text is None:
            continue
        alias = to_camel(name)
        if field.annotation in {int, bool} or isinstance(field.get_default(), dict | tuple):
            values[alias] = _parsed(name, text)
        else:
            values[alias] = text
    return values


def _parsed(name: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise InvalidSpec([Problem(to_camel(name), text, "must be valid YAML, such as {key: value}")]) from None


def variable(name: str) -> str:
    """Return the environment variable of a setting."""
    return f"{PREFIX}{name.upper()}"


def _sentences(problems: Iterable[Problem]) -> str:
    lines = []
    for problem in problems:
        field = problem.path.partition("[")[0].partition(".")[0]
        names = {to_camel(name): variable(name) for name in Settings.model_fields}
        hint = f"; set {field} in the settings file or {names[field]}" if field in names else ""
        lines.append(f"{problem}{hint}")
    return "\n".join(lines)
