import pytest


def ports(rule):
    return [(entry["port"], entry["protocol"]) for entry in rule["ports"]]


def test_egress_is_limited_to_dns_the_exchange_kafka_and_the_registry(manifests):
    (policy,) = manifests("NetworkPolicy")
    dns, exchange, kafka, registry = policy["spec"]["egress"]
    assert policy["spec"]["policyTypes"] == ["Egress", "Ingress"]
    assert policy["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "ingest"
    assert dns == {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}
    assert exchange == {"ports": [{"port": 443, "protocol": "TCP"}]}
    assert ports(kafka) == [(9092, "TCP")]
    assert kafka["to"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kafka"}}}]
    assert ports(registry) == [(8080, "TCP")]
    assert registry["to"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "platform"}}}]
    assert [ports(rule) for rule in policy["spec"]["ingress"]] == [[(9101, "TCP")]]


def test_custom_endpoints_open_their_ports(manifests):
    ingest = {"endpoints": ["ws://simulator:9443", "wss://far.example"], "restEndpoint": "http://simulator"}
    (policy,) = manifests("NetworkPolicy", ingest=ingest)
    assert ports(policy["spec"]["egress"][1]) == [(80, "TCP"), (443, "TCP"), (9443, "TCP")]


@pytest.mark.parametrize(
    ("host", "namespace"),
    [
        ("kafka", "market"),
        ("kafka.other", "other"),
        ("kafka.other.svc", "other"),
        ("kafka.other.svc.cluster.local", "other"),
        ("b-1.kafka.example.com", None),
        ("10.0.0.7", None),
    ],
)
def test_a_server_outside_the_cluster_is_restricted_by_port_only(manifests, host, namespace):
    (policy,) = manifests("NetworkPolicy", platform={"kafka_bootstrap": f"{host}:9093"})
    kafka = policy["spec"]["egress"][2]
    assert ports(kafka) == [(9093, "TCP")]
    labels = [peer["namespaceSelector"]["matchLabels"] for peer in kafka.get("to", [])]
    assert labels == ([{"kubernetes.io/metadata.name": namespace}] if namespace else [])


def test_the_registrys_container_port_is_allowed_instead_of_its_service_port(manifests):
    platform = {"registry_url": "http://registry", "registry_pod_port": 8080}
    (policy,) = manifests("NetworkPolicy", platform=platform)
    assert ports(policy["spec"]["egress"][3]) == [(8080, "TCP")]
    assert manifests("NetworkPolicy", platform={"network_policy": False}) == []
