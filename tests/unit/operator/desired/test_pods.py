"""How pods identify themselves to Kafka: files of Secrets, named in variables; no password in any object."""

from typing import Any

import pytest

from k2.common.platform import Platform
from k2.operator.desired.jobs.purge import purge_job
from k2.operator.desired.spark import spark_applications
from tests.unit.operator.conftest import SCRAM

TLS = SCRAM | {"kafka_security_protocol": "SSL"}


def pod_specs(manifests, feed, settings, **platform: Any) -> dict[str, dict[str, Any]]:
    """Return the pod specs with Kafka's clients, by component."""
    (deployment,) = manifests("Deployment", platform=platform)
    application = spark_applications(feed(), settings(**platform))[0]
    return {
        "ingest": deployment["spec"]["template"]["spec"],
        "driver": application["spec"]["driver"]["template"]["spec"],
        "executor": application["spec"]["executor"]["template"]["spec"],
        "purge": purge_job(feed(), settings(**platform), exchange=True)["spec"]["template"]["spec"],
    }


def files(pod: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Return Secret and key of each file that the pod's container sees of a Secret."""
    (container,) = pod["containers"]
    volumes = {volume["name"]: volume["secret"] for volume in pod["volumes"] if "secret" in volume}
    return {
        f"{mount['mountPath']}/{item['path']}": (volumes[mount["name"]]["secretName"], item["key"])
        for mount in container["volumeMounts"]
        if mount["name"] in volumes
        for item in volumes[mount["name"]]["items"]
    }


def platform_of(pod: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Platform:
    """Read the variables of a pod as its process does."""
    for entry in pod["containers"][0]["env"]:
        monkeypatch.setenv(entry["name"], entry.get("value", "from-a-secret"))
    return Platform.read()


@pytest.mark.parametrize(("component", "user"), [("ingest", "k2-ingest"), ("driver", "k2-jobs"), ("purge", "k2-jobs")])
def test_a_pod_has_its_users_password_in_a_file(manifests, feed, settings, monkeypatch, component, user):
    pod = pod_specs(manifests, feed, settings, **SCRAM)[component]
    kafka = platform_of(pod, monkeypatch).kafka
    mounted = files(pod)
    assert (kafka.protocol, kafka.username) == ("SASL_SSL", user)
    assert mounted == {
        kafka.ca_file: ("k2-kafka-cluster-ca-cert", "ca.crt"),
        kafka.password_file: (user, "password"),
    }
    assert user in kafka.password_file  # so a message about the file names the Secret


@pytest.mark.parametrize("protocol", [SCRAM, TLS])
def test_executors_see_the_files_of_the_driver(manifests, feed, settings, protocol):
    pods = pod_specs(manifests, feed, settings, **protocol)
    assert files(pods["executor"]) == files(pods["driver"]) != {}


def test_a_pod_has_its_users_certificate_and_key_in_files(manifests, feed, settings, monkeypatch):
    platform = TLS | {"kafka_certificate_key": "tls.crt", "kafka_private_key_key": "tls.key", "kafka_ca_key": "all.pem"}
    pod = pod_specs(manifests, feed, settings, **platform)["ingest"]
    kafka = platform_of(pod, monkeypatch).kafka
    assert kafka.protocol == "SSL"
    assert files(pod) == {
        kafka.ca_file: ("k2-kafka-cluster-ca-cert", "all.pem"),
        kafka.certificate_file: ("k2-ingest", "tls.crt"),
        kafka.key_file: ("k2-ingest", "tls.key"),
    }


def test_a_user_name_may_differ_from_the_secrets_and_one_secret_may_hold_everything(
    manifests, feed, settings, monkeypatch
):
    platform = SCRAM | {"kafka_ca_secret": "all", "kafka_ingest_secret": "all", "kafka_ingest_user": "market"}
    pod = pod_specs(manifests, feed, settings, **platform)["ingest"]
    kafka = platform_of(pod, monkeypatch).kafka
    assert kafka.username == "market"
    assert files(pod) == {kafka.ca_file: ("all", "ca.crt"), kafka.password_file: ("all", "password")}


def test_tls_without_users_mounts_the_certificate_authorities_only(manifests, feed, settings, monkeypatch):
    platform = {"kafka_security_protocol": "SSL", "kafka_ca_secret": "ca"}
    pod = pod_specs(manifests, feed, settings, **platform)["ingest"]
    assert files(pod) == {platform_of(pod, monkeypatch).kafka.ca_file: ("ca", "ca.crt")}


def test_without_tls_no_secret_is_mounted(manifests, feed, settings):
    for pod in pod_specs(manifests, feed, settings, **SCRAM | {"kafka_security_protocol": "PLAINTEXT"}).values():
        assert files(pod) == {}


def test_a_missing_secret_does_not_keep_a_pod_from_starting_and_only_its_user_reads_the_files(
    manifests, feed, settings
):
    for pod in pod_specs(manifests, feed, settings, **SCRAM).values():
        secrets = [volume["secret"] for volume in pod["volumes"] if "secret" in volume]
        assert len(secrets) == 2
        for secret in secrets:
            assert secret["optional"] is True
            assert secret["defaultMode"] == 0o440
