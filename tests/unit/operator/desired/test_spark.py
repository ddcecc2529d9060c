import argparse

import pytest

from k2.operator.desired.naming import RESTART_NONCE, SPEC_HASH
from k2.operator.desired.spark import spec_hash

LAYERS = ("bronze", "silver", "gold")


def all_layers(**about):
    return {layer: dict(about) for layer in LAYERS}


def test_each_layer_is_an_application_or_one_runs_all(manifests):
    apart = manifests("SparkApplication")
    assert [manifest["metadata"]["name"] for manifest in apart] == [f"binance-{layer}" for layer in LAYERS]
    assert [manifest["spec"]["arguments"][3] for manifest in apart] == list(LAYERS)
    assert not any("--restart" in manifest["spec"]["arguments"] for manifest in apart)
    (together,) = manifests("SparkApplication", layers={"topology": "Combined"})
    assert together["metadata"]["name"] == "binance-layers"
    assert together["spec"]["arguments"][3] == "all"
    assert "--restart" in together["spec"]["arguments"]


def test_the_arguments_are_the_jobs_own(manifests):
    from k2.jobs.__main__ import _add_arguments

    parser = argparse.ArgumentParser()
    _add_arguments(parser)
    for topology in ("PerLayer", "Combined"):
        for manifest in manifests("SparkApplication", layers={"topology": topology}):
            read = parser.parse_args(manifest["spec"]["arguments"])
            port = manifest["spec"]["driver"]["template"]["spec"]["containers"][0]["ports"][0]["containerPort"]
            assert (read.host, read.port) == ("0.0.0.0", port)
            mount = manifest["spec"]["driver"]["template"]["spec"]["containers"][0]["volumeMounts"][0]
            assert str(read.feed[0]) == f"{mount['mountPath']}/feed.yaml"


def test_the_driver_gets_all_platform_settings(manifests, monkeypatch):
    from k2.common.platform import Platform

    manifest = manifests("SparkApplication")[0]
    for entry in manifest["spec"]["driver"]["template"]["spec"]["containers"][0]["env"]:
        monkeypatch.setenv(entry["name"], entry.get("value", "from-a-secret"))
    platform = Platform()
    assert platform.kafka_bootstrap == "k2-kafka-bootstrap.kafka.svc:9092"
    assert platform.registry_url == "http://registry.platform.svc:8080/apis/ccompat/v8"
    assert platform.catalog_uri == "postgresql+psycopg2://postgres.platform.svc/catalog"
    assert platform.catalog_user == platform.catalog_password.get_secret_value() == "from-a-secret"
    assert (platform.warehouse, platform.checkpoints) == ("s3://lake/warehouse", "s3a://lake/checkpoints")


REST = {
    "catalog_type": "rest", "catalog_uri": "https://catalog.example", "catalog_secret": "lake",
    "catalog_warehouse": "market", "catalog_scope": "all", "catalog_oauth2_uri": "https://login.example/token",
}  # fmt: skip


def test_the_driver_gets_a_rest_catalog_with_the_id_and_secret_of_a_client(manifests, monkeypatch):
    from k2.common.platform import Platform

    (manifest,) = manifests("SparkApplication", platform=REST, layers={"topology": "Combined"})
    for entry in manifest["spec"]["driver"]["template"]["spec"]["containers"][0]["env"]:
        monkeypatch.setenv(entry["name"], entry.get("value", "from-a-secret"))
    catalog = Platform.read().catalog
    assert (catalog.type, catalog.uri, catalog.warehouse) == ("rest", "https://catalog.example", "market")
    assert (catalog.user, catalog.password) == ("from-a-secret", "from-a-secret")
    assert (catalog.scope, catalog.oauth2_uri) == ("all", "https://login.example/token")


def test_a_token_is_a_file_of_the_driver_and_in_no_variable(manifests):
    token = {"catalog_type": "rest", "catalog_uri": "https://catalog.example", "catalog_secret": "lake"}
    platform = token | {"catalog_token_key": "bearer"}
    (manifest,) = manifests("SparkApplication", platform=platform, layers={"topology": "Combined"})
    pods = {role: manifest["spec"][role]["template"]["spec"] for role in ("driver", "executor")}
    (driver,), (executor,) = (pod["containers"] for pod in pods.values())
    variables = {entry["name"]: entry.get("value") for entry in driver["env"]}
    assert variables["K2_CATALOG_TOKEN_FILE"] == "/etc/k2-catalog/bearer"
    assert not {"K2_CATALOG_USER", "K2_CATALOG_PASSWORD"} & variables.keys()
    (volume,) = [each for each in pods["driver"]["volumes"] if each["name"] == "catalog"]
    assert volume["secret"]["secretName"] == "lake"
    assert "/etc/k2-catalog" in {mount["mountPath"] for mount in driver["volumeMounts"]}
    assert "/etc/k2-catalog" not in {mount["mountPath"] for mount in executor["volumeMounts"]}


def test_jvms_trust_the_platforms_authorities_for_a_store_over_tls(manifests, monkeypatch):
    from k2.common.platform import Platform

    platform = {"ca_config_map": "authorities", "s3_endpoint": "https://store.example"}
    (manifest,) = manifests("SparkApplication", platform=platform, layers={"topology": "Combined"})
    spec = manifest["spec"]
    (driver,) = spec["driver"]["template"]["spec"]["containers"]
    for entry in driver["env"]:
        monkeypatch.setenv(entry["name"], entry.get("value", "x"))
    assert Platform.read().ca_files == ("/etc/k2-ca/ca.crt",)
    executor = spec["executor"]["template"]["spec"]
    (init,), (container,) = executor["initContainers"], executor["containers"]
    target = init["command"][-1]
    assert f"-Djavax.net.ssl.trustStore={target} " in spec["sparkConf"]["spark.executor.extraJavaOptions"]
    assert "trustStore" not in spec["sparkConf"]["spark.driver.extraJavaOptions"]
    for mounts in (init["volumeMounts"], container["volumeMounts"]):
        assert {"trust", "ca"} <= {mount["name"] for mount in mounts}
    assert {"trust", "ca"} <= {volume["name"] for volume in executor["volumes"]}


def test_a_store_without_tls_needs_no_trust_store(manifests):
    platform = {"ca_config_map": "authorities", "s3_endpoint": "http://store"}
    (manifest,) = manifests("SparkApplication", platform=platform, layers={"topology": "Combined"})
    assert "initContainers" not in manifest["spec"]["executor"]["template"]["spec"]
    assert "trustStore" not in str(manifest)
    assert "CA_FILE" not in str(manifest)


def test_an_application_is_restarted_without_a_limit(manifests):
    for manifest in manifests("SparkApplication", platform={"restart_interval": 7}):
        assert manifest["spec"]["restartPolicy"] == {
            "type": "Always",
            "onFailureRetryInterval": 7,
            "onSubmissionFailureRetryInterval": 7,
        }


def test_suspending_changes_one_field_and_not_the_specs_hash(manifests):
    before, after = manifests("SparkApplication")[0], manifests("SparkApplication", suspend=True)[0]
    assert (before["spec"].pop("suspend"), after["spec"].pop("suspend")) == (False, True)
    assert before == after
    assert before["metadata"]["annotations"][SPEC_HASH] == spec_hash(before["spec"])


def test_another_nonce_restarts_the_layers_and_an_empty_one_adds_no_annotation(manifests):
    without_nonce, one, two = (manifests("SparkApplication", restart=nonce)[0] for nonce in ("", "1", "2"))
    assert RESTART_NONCE not in without_nonce["spec"]["driver"]["annotations"]
    hashes = {manifest["metadata"]["annotations"][SPEC_HASH] for manifest in (without_nonce, one, two)}
    assert len(hashes) == 3


def test_without_executors_the_driver_does_the_work(manifests):
    given = {"requests": {"cpu": "250m"}, "limits": {"cpu": "1500m", "memory": "900Mi"}}
    (first, *_) = manifests("SparkApplication", layers=all_layers(executors=0, resources=given))
    driver = first["spec"]["driver"]
    assert first["spec"]["sparkConf"]["spark.kubernetes.driver.master"] == "local[2]"
    assert "instances" not in first["spec"]["executor"]
    assert {name: driver[name] for name in ("cores", "coreRequest", "coreLimit", "memory", "memoryOverhead")} == {
        "cores": 2,
        "coreRequest": "250m",
        "coreLimit": "1500m",
        "memory": "512m",
        "memoryOverhead": "388m",
    }


def test_with_executors_the_layers_resources_are_theirs(manifests):
    given = {"requests": {"memory": "2Gi", "cpu": "2"}}
    (first, *_) = manifests("SparkApplication", layers=all_layers(executors=3, resources=given))
    spec = first["spec"]
    assert "spark.kubernetes.driver.master" not in spec["sparkConf"]
    assert spec["executor"]["instances"] == 3
    assert (spec["executor"]["cores"], spec["executor"]["memory"]) == (2, "1639m")
    assert (spec["driver"]["memory"], spec["driver"]["memoryOverhead"]) == ("512m", "512m")


def test_a_combined_application_takes_the_largest_of_its_layers(manifests):
    layers = {
        "topology": "Combined",
        "bronze": {"executors": 0, "resources": {"limits": {"memory": "1Gi"}}},
        "silver": {"executors": 0, "resources": {"limits": {"memory": "3000Mi"}}},
        "gold": {"executors": 0},
    }
    (application,) = manifests("SparkApplication", layers=layers)
    assert application["spec"]["driver"]["memory"] == "2400m"
    layers["gold"] = {"executors": 2}
    assert manifests("SparkApplication", layers=layers)[0]["spec"]["executor"]["instances"] == 2


def test_spark_conf_is_sorted_and_k2s_settings_take_precedence(manifests):
    given = {"z": "1", "a": "2", "spark.dynamicAllocation.enabled": "true"}
    conf = manifests("SparkApplication", platform={"spark_conf": given})[0]["spec"]["sparkConf"]
    assert list(conf) == sorted(conf)
    assert conf["a"] == "2"
    assert conf["spark.dynamicAllocation.enabled"] == "false"


def test_log4j_is_configured_from_the_image_before_the_options_of_the_setting(manifests):
    given = {"spark.driver.extraJavaOptions": "-Xss2m"}
    conf = manifests("SparkApplication", platform={"spark_conf": given})[0]["spec"]["sparkConf"]
    logging = "-Dlog4j2.configurationFile=file:///opt/k2/log4j2.properties"
    assert conf["spark.driver.extraJavaOptions"] == f"{logging} -Xss2m"
    assert conf["spark.executor.extraJavaOptions"] == logging


@pytest.mark.parametrize("path_style", [True, False])
def test_the_driver_gets_the_bucket_settings(manifests, monkeypatch, path_style):
    from k2.common.platform import Platform

    given = {"s3_endpoint": "http://minio:9000", "s3_region": "eu-west-1", "s3_path_style": path_style}
    for name, value in driver_environment(manifests("SparkApplication", platform=given)[0]).items():
        monkeypatch.setenv(name, value)
    platform = Platform()
    assert (platform.s3_endpoint, platform.s3_region, platform.s3_path_style) == (
        "http://minio:9000",
        "eu-west-1",
        path_style,
    )


def test_spark_conf_has_no_s3_settings_because_the_jobs_set_them(manifests):
    spec = manifests("SparkApplication")[0]["spec"]
    assert not any("s3" in f"{name}={value}" for name, value in spec["sparkConf"].items())


def test_files_on_a_disk_need_no_bucket(manifests):
    platform = {"warehouse": "file:///data/w", "checkpoints": "file:///data/c", "s3_endpoint": "", "s3_secret": ""}
    names = driver_environment(manifests("SparkApplication", platform=platform)[0])
    assert not any(name.startswith("K2_S3_") or name == "AWS_ACCESS_KEY_ID" for name in names)


def driver_environment(application):
    (container,) = application["spec"]["driver"]["template"]["spec"]["containers"]
    return {entry["name"]: entry.get("value", "from-a-secret") for entry in container["env"]}


def test_a_driver_is_never_too_small_for_spark(manifests):
    given = {"limits": {"memory": "256Mi"}}
    (first, *_) = manifests("SparkApplication", layers=all_layers(executors=0, resources=given))
    assert (first["spec"]["driver"]["memory"], first["spec"]["driver"]["memoryOverhead"]) == ("512m", "384m")
