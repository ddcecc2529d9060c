import pytest

from k2.operator.settings import InvalidSettings, Settings, load, variable
from tests.unit.operator.conftest import SCRAM, SETTINGS

FILE = """
ingestImage: registry.example/k2-ingest:0.1.0
jobsImage: registry.example/k2-jobs@sha256:00
kafkaBootstrap: kafka:9092
registryUrl: http://registry:8080/
catalogUri: postgresql://postgres/catalog
warehouse: s3://lake/warehouse/
checkpoints: s3a://lake/checkpoints
monitorLabels: {release: prometheus}
"""


def environment(**changes):
    return {variable(name): value for name, value in (SETTINGS | changes).items()}


def test_a_file_is_enough():
    loaded = load(FILE, {})
    assert loaded.jobs_image == "registry.example/k2-jobs@sha256:00"
    assert loaded.monitor_labels == {"release": "prometheus"}
    assert loaded.kafka_topic_version == "v1"
    assert (loaded.registry_url, loaded.warehouse) == ("http://registry:8080", "s3://lake/warehouse")


def test_the_environment_is_enough():
    assert load(None, environment()) == Settings.model_validate(SETTINGS)


def test_a_variable_takes_precedence_over_the_file_for_every_type():
    variables = {
        "K2_OPERATOR_INGEST_IMAGE": "other:2",
        "K2_OPERATOR_KAFKA_REPLICAS": "3",
        "K2_OPERATOR_NETWORK_POLICY": "false",
        "K2_OPERATOR_SPARK_CONF": "{spark.a: '1'}",
        "K2_OPERATOR_IMAGE_PULL_SECRETS": "[one, two]",
        "K2_OPERATOR_MONITOR_LABELS": "{}",
    }
    loaded = load(FILE, variables)
    assert loaded.ingest_image == "other:2"
    assert loaded.kafka_replicas == 3
    assert loaded.network_policy is False
    assert loaded.spark_conf == {"spark.a": "1"}
    assert loaded.image_pull_secrets == ("one", "two")
    assert loaded.monitor_labels == {}


def test_variables_that_kubernetes_adds_are_ignored():
    assert load(FILE, {"K2_OPERATOR_SERVICE_HOST": "10.0.0.1", "K2_OPERATOR_PORT": "tcp://10.0.0.1:80"}) == load(
        FILE, {}
    )


def test_every_missing_setting_is_reported_with_what_to_set():
    with pytest.raises(InvalidSettings) as raised:
        load(None, {})
    lines = str(raised.value).splitlines()
    assert len(lines) == 7
    assert lines[0] == (
        "ingestImage: this field is required; set ingestImage in the settings file or K2_OPERATOR_INGEST_IMAGE"
    )


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("ingest_image", "k2-ingest", "must match"),
        ("pod_labels", "{k2.marketdata.io/feed: x}", "is K2's own: pods are selected by it"),
        ("extra_env", "[{value: x}]", "has no name"),
        ("ingest_image", "registry.example/k2-ingest:latest", "must have a version tag or a digest"),
        ("jobs_image", "k2-jobs:latest", "set jobsImage in the settings file"),
        ("kafka_bootstrap", "kafka", "must be host:port"),
        ("kafka_bootstrap", "kafka:0", "must be host:port"),
        ("registry_url", "registry:8080", "must begin with http: or https:"),
        ("registry_url", "http://user:word@registry", "name a Secret instead"),
        ("catalog_uri", "sqlite:///catalog.db", "must begin with postgresql:"),
        ("catalog_uri", "postgresql://user:word@postgres/catalog", "name a Secret instead"),
        ("catalog_uri", "http://catalog:8181", "must begin with postgresql:, because catalogType is jdbc"),
        ("catalog_scope", "all", "used only with catalogType rest"),
        ("catalog_oauth2_uri", "http://user:word@idp", "name a Secret instead"),
        ("checkpoints", "s3://lake/checkpoints", "must begin with s3a: or file:"),
        ("kafka_topic_version", "1", "must match"),
        ("driver_memory", "768", "write for example 768Mi or 2Gi"),
        ("spark_cpu", "much", "write for example 500m or 2"),
        ("monitor", "Both", "must be 'PodMonitor', 'ServiceMonitor' or 'None'"),
        ("kafka_replicas", "many", "must be a valid integer"),
        ("spark_conf", "{", "must be valid YAML"),
        ("jobs_main", "s3://code/jobs.py", "must match"),
        ("https_proxy", "socks5://proxy:1080", "must be a URL that begins with http:// or https://"),
        ("https_proxy", "http://", "with a host"),
        ("https_proxy", "http://user:word@proxy:3128", "everyone who may read pods would see it"),
        ("egress_groups", "{Team A: gateway}", "must match"),
    ],
)
def test_an_invalid_value_is_reported_with_what_to_set(name, value, words):
    with pytest.raises(InvalidSettings) as raised:
        load(None, environment(**{name: value}))
    (line,) = str(raised.value).splitlines()
    assert words in line
    assert line.endswith(variable(name))
    assert "word@" not in line


@pytest.mark.parametrize(
    ("text", "words"),
    [("- a", "must contain one mapping"), ("ingestImag: a:1", "unknown field"), ("a: [", "must be YAML")],
)
def test_an_invalid_settings_file_is_rejected(text, words):
    with pytest.raises(InvalidSettings, match=words):
        load(text, environment())


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"kafka_ca_secret": ""}, "kafkaCaSecret"),
        ({"kafka_ingest_secret": ""}, "kafkaIngestSecret"),
        ({"kafka_jobs_secret": ""}, "kafkaJobsSecret"),
        ({"kafka_security_protocol": "SSL", "kafka_ca_secret": ""}, "kafkaCaSecret"),
        ({"kafka_security_protocol": "SSL", "kafka_jobs_secret": ""}, "kafkaJobsSecret"),
    ],
)
def test_a_secret_that_the_protocol_to_kafka_needs_is_reported_by_name(changes, named):
    assert load(None, environment(**SCRAM)).kafka_ingest_secret == "k2-ingest"
    with pytest.raises(InvalidSettings) as raised:
        load(None, environment(**SCRAM | changes))
    (line,) = str(raised.value).splitlines()
    assert line.startswith(f"{named}: required")
    assert f"set {named} in the settings file" in line


def test_tls_without_users_needs_the_certificate_authorities_only():
    loaded = load(None, environment(kafka_security_protocol="SSL", kafka_ca_secret="ca"))
    assert loaded.kafka_jobs_secret == ""
