import pytest

from k2.operator.desired import children
from k2.operator.desired.ingest import ingest_deployments
from k2.operator.desired.naming import CONFIG_HASH
from k2.schemas.egress import decode
from k2.schemas.feed.model import ExchangeFeed


def container(deployment):
    return deployment["spec"]["template"]["spec"]["containers"][0]


def test_each_shard_and_replica_is_a_deployment_with_its_arguments(manifests):
    deployments = manifests(
        "Deployment", symbols=[f"COIN{number}USDT" for number in range(20)], ingest={"shards": 2, "redundancy": 2}
    )
    assert [manifest["metadata"]["name"] for manifest in deployments] == [
        f"binance-shard-{shard}-{replica}" for shard in (0, 1) for replica in (0, 1)
    ]
    arguments = container(deployments[3])["args"]
    assert arguments[arguments.index("--shard") + 1] == "1"
    assert arguments[arguments.index("--replica") + 1] == "1"
    selectors = [tuple(sorted(manifest["spec"]["selector"]["matchLabels"].items())) for manifest in deployments]
    assert len(set(selectors)) == 4


def test_a_shard_without_symbols_has_no_deployment(feed, settings):
    assert len(ingest_deployments(feed(symbols=["BTCUSDT"], ingest={"shards": 64}), settings())) == 1


def test_two_pods_of_one_connection_never_run_at_once(manifests):
    (deployment,) = manifests("Deployment")
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    assert deployment["spec"]["replicas"] == 1


def test_a_suspended_feed_runs_no_pod(manifests):
    assert [manifest["spec"]["replicas"] for manifest in manifests("Deployment", suspend=True)] == [0]


def test_the_selector_matches_the_pods_labels(manifests):
    (deployment,) = manifests("Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert len(deployment["spec"]["template"]["metadata"]["annotations"][CONFIG_HASH]) == 16


def test_the_pod_reads_the_feed_from_the_config_map_and_serves_its_probes(manifests):
    (deployment,), (config,) = manifests("Deployment"), manifests("ConfigMap")
    pod = deployment["spec"]["template"]["spec"]
    arguments = container(deployment)["args"]
    mount = next(mount for mount in container(deployment)["volumeMounts"] if mount["name"] == "feed")
    volume = next(volume for volume in pod["volumes"] if volume["name"] == "feed")
    assert volume["configMap"]["name"] == config["metadata"]["name"]
    assert arguments[arguments.index("--feed") + 1] == f"{mount['mountPath']}/{next(iter(config['data']))}"
    (port,) = container(deployment)["ports"]
    assert arguments[arguments.index("--port") + 1] == str(port["containerPort"])
    for probe, path in (("livenessProbe", "/healthz"), ("startupProbe", "/healthz"), ("readinessProbe", "/readyz")):
        assert container(deployment)[probe]["httpGet"] == {"path": path, "port": port["name"]}


def test_the_termination_grace_period_exceeds_the_flush(manifests):
    (deployment,) = manifests("Deployment")
    arguments = container(deployment)["args"]
    grace = float(arguments[arguments.index("--grace") + 1])
    assert deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > 1.5 * grace + 10


def test_the_pod_has_its_service_account_and_no_token(manifests):
    (deployment,) = manifests("Deployment", platform={"ingest_service_account": "k2-ingest"})
    pod = deployment["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    assert pod["serviceAccountName"] == "k2-ingest"


@pytest.mark.parametrize(
    ("given", "requests", "limits"),
    [
        ({}, {"cpu": "100m", "memory": "128Mi"}, {"memory": "512Mi"}),
        ({"limits": {"memory": "64Mi"}}, {"cpu": "100m", "memory": "64Mi"}, {"memory": "64Mi"}),
        ({"requests": {"memory": "2Gi"}}, {"cpu": "100m", "memory": "2Gi"}, {"memory": "2Gi"}),
        ({"limits": {"cpu": "50m"}}, {"cpu": "50m", "memory": "128Mi"}, {"memory": "512Mi", "cpu": "50m"}),
        ({"limits": {"cpu": "2"}}, {"cpu": "100m", "memory": "128Mi"}, {"memory": "512Mi", "cpu": "2"}),
        ({"requests": {"cpu": "1"}}, {"cpu": "1", "memory": "128Mi"}, {"memory": "512Mi"}),
    ],
)
def test_user_resources_take_precedence_and_a_request_never_exceeds_its_limit(manifests, given, requests, limits):
    (deployment,) = manifests("Deployment", ingest={"resources": given})
    assert container(deployment)["resources"] == {"requests": requests, "limits": limits}


def test_a_changed_number_of_processes_changes_the_mounted_file_and_restarts_nothing(feed, settings):
    one, two = (
        {manifest["kind"]: manifest for manifest in children(feed(), settings(), processes=number)}
        for number in (1, 12)
    )
    assert {kind for kind in one if one[kind] != two[kind]} == {"ConfigMap"}
    assert decode(two["ConfigMap"]["data"]["egress.json"].encode()).processes == 12
    arguments = container(two["Deployment"])["args"]
    assert arguments[arguments.index("--egress") + 1] == "/etc/k2/egress.json"


def test_a_proxy_and_its_certificates_reach_the_pods_and_its_port_is_open(manifests):
    platform = {"https_proxy": "http://proxy.corp:3128", "no_proxy": ".svc,10.0.0.0/8", "ca_config_map": "corporate-ca"}
    (deployment,) = manifests("Deployment", platform=platform)
    variables = {each["name"]: each["value"] for each in container(deployment)["env"]}
    assert variables["HTTPS_PROXY"] == "http://proxy.corp:3128"
    assert variables["NO_PROXY"] == ".svc,10.0.0.0/8"
    mounts = {each["name"]: each["mountPath"] for each in container(deployment)["volumeMounts"]}
    assert variables["SSL_CERT_FILE"] == f"{mounts['ca']}/ca.crt"
    assert {"name": "ca", "configMap": {"name": "corporate-ca"}} in deployment["spec"]["template"]["spec"]["volumes"]
    policy, _ = manifests("NetworkPolicy", platform=platform)
    ports = {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}
    assert {443, 3128} <= ports
    (plain,) = manifests("Deployment")
    assert not {"HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE"} & {each["name"] for each in container(plain)["env"]}


def test_the_config_map_holds_the_feed_that_its_pods_run(manifests, feed):
    change = {"ingest": {"shards": 2, "endpoints": ["wss://far.example"]}, "layers": {"gold": {"trigger": "1s"}}}
    (config,) = manifests("ConfigMap", **change, suspend=True)
    read = ExchangeFeed.from_yaml(config["data"]["feed.yaml"])
    assert read == feed(**change)


def test_exchanges_at_private_addresses_are_refused_unless_the_platform_allows_them(manifests):
    (deployment,) = manifests("Deployment")
    assert "--public-addresses-only" in container(deployment)["args"]
    (allowed,) = manifests("Deployment", platform={"allow_private_endpoints": True})
    assert "--public-addresses-only" not in container(allowed)["args"]
