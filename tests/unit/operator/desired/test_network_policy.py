from ipaddress import ip_address, ip_network

import pytest

PROTOCOLS = ("UDP", "TCP")
LINK_LOCAL = "169.254.169.254"


def ports(rule):
    return [(entry["port"], entry["protocol"]) for entry in rule["ports"]]


def policy(manifests, part="ingest", **given):
    (found_policy,) = [
        each for each in manifests("NetworkPolicy", **given) if each["metadata"]["name"].endswith(f"-{part}")
    ]
    return found_policy["spec"]


def reaches(spec, port, address):
    """Return whether a policy lets pods connect to a port of an address outside the cluster."""
    where = ip_address(address)
    for rule in spec["egress"]:
        if "ports" in rule and port not in {entry["port"] for entry in rule["ports"]}:
            continue
        if "to" not in rule:
            return True
        for block in (peer["ipBlock"] for peer in rule["to"] if "ipBlock" in peer):
            excluded = [ip_network(each) for each in block.get("except", ())]
            if where in ip_network(block["cidr"]) and not any(where in each for each in excluded):
                return True
    return False


def namespaces(rule):
    return [peer["namespaceSelector"].get("matchLabels") for peer in rule["to"] if "namespaceSelector" in peer]


def named(namespace):
    return [{"kubernetes.io/metadata.name": namespace}]


def test_egress_of_the_ingest_is_limited_to_dns_the_exchange_kafka_and_the_registry(manifests):
    spec = policy(manifests)
    dns, exchange, kafka, registry = spec["egress"]
    assert spec["policyTypes"] == ["Egress", "Ingress"]
    assert spec["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "ingest"
    assert dns == {
        "ports": [{"port": port, "protocol": protocol} for port in (53, 5353) for protocol in ("UDP", "TCP")]
    }
    assert ports(exchange) == [(443, "TCP")]
    assert (ports(kafka), namespaces(kafka)) == ([(9092, "TCP")], named("kafka"))
    assert (ports(registry), namespaces(registry)) == ([(8080, "TCP")], named("platform"))
    assert [ports(rule) for rule in spec["ingress"]] == [[(9101, "TCP")]]


@pytest.mark.parametrize("part", ["ingest", "jobs"])
def test_the_receiver_of_traces_that_pods_have_a_variable_for_is_reached(manifests, part):
    variables = (
        {"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://collector.observability:4318"},
        {"name": "OTEL_SERVICE_NAME", "value": "http://elsewhere:1"},
        {"name": "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "valueFrom": {}},
    )
    before = policy(manifests, part)["egress"]
    (rule,) = [
        each for each in policy(manifests, part, platform={"extra_env": variables})["egress"] if each not in before
    ]
    assert (ports(rule), namespaces(rule)) == ([(4318, "TCP")], named("observability"))


@pytest.mark.parametrize(
    ("address", "public", "private"),
    [
        ("93.184.216.34", True, True),
        ("10.1.2.3", False, True),
        ("172.20.0.1", False, True),
        ("192.168.1.1", False, True),
        ("100.64.0.1", False, True),
        (LINK_LOCAL, False, False),
        ("169.254.170.2", False, False),
    ],
)
def test_exchanges_are_at_public_addresses_unless_the_platform_allows_others_and_never_link_local(
    manifests, address, public, private
):
    assert reaches(policy(manifests), 443, address) is public
    allowed = policy(manifests, platform={"allow_private_endpoints": True})
    assert reaches(allowed, 443, address) is private
    assert {"namespaceSelector": {}} in allowed["egress"][1]["to"]
    assert {"namespaceSelector": {}} not in policy(manifests)["egress"][1]["to"]


@pytest.mark.parametrize(
    ("address", "public", "private"),
    [
        ("2606:2800::1", True, True),
        ("fd12::1", False, True),
        ("fe80::1", False, False),
        ("fd00:ec2::254", False, False),
    ],
)
def test_ipv6_is_a_choice(manifests, address, public, private):
    assert not reaches(policy(manifests), 443, address)
    assert reaches(policy(manifests, platform={"egress_ipv6": True}), 443, address) is public
    both = {"egress_ipv6": True, "allow_private_endpoints": True}
    assert reaches(policy(manifests, platform=both), 443, address) is private


def test_custom_endpoints_open_their_ports(manifests):
    ingest = {"endpoints": ["ws://simulator:9443", "wss://far.example"], "restEndpoint": "http://simulator"}
    assert ports(policy(manifests, ingest=ingest)["egress"][1]) == [(80, "TCP"), (443, "TCP"), (9443, "TCP")]


def test_the_proxy_may_be_at_a_private_address(manifests):
    spec = policy(manifests, platform={"https_proxy": "http://proxy.corp:3128"})
    assert reaches(spec, 3128, "10.0.0.9")
    assert not reaches(spec, 3128, LINK_LOCAL)
    assert not reaches(spec, 443, "10.0.0.9")


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
def test_a_server_outside_the_cluster_is_restricted_by_port_and_is_not_link_local(manifests, host, namespace):
    spec = policy(manifests, platform={"kafka_bootstrap": f"{host}:9093"})
    kafka = spec["egress"][2]
    assert ports(kafka) == [(9093, "TCP")]
    assert namespaces(kafka) == (named(namespace) if namespace else [None])
    assert reaches(spec, 9093, "10.0.0.7") is (namespace is None)
    assert not reaches(spec, 9093, LINK_LOCAL)


def test_the_registrys_container_port_is_allowed_instead_of_its_service_port(manifests):
    platform = {"registry_url": "http://registry", "registry_pod_port": 8080}
    assert ports(policy(manifests, platform=platform)["egress"][3]) == [(8080, "TCP")]
    assert manifests("NetworkPolicy", platform={"network_policy": False}) == []


def test_spark_pods_reach_their_services_the_api_server_and_one_another(manifests):
    spec = policy(manifests, "jobs", platform={"api_server_ports": (6443,)})
    assert spec["policyTypes"] == ["Egress"]
    assert spec["podSelector"] == {
        "matchLabels": {"k2.marketdata.io/feed": "binance"},
        "matchExpressions": [{"key": "app.kubernetes.io/component", "operator": "NotIn", "values": ["ingest"]}],
    }
    dns, kafka, registry, catalog, store, server, peers = spec["egress"]
    assert ports(dns) == [(53, "UDP"), (53, "TCP"), (5353, "UDP"), (5353, "TCP")]
    for rule, port, namespace in (
        (kafka, 9092, "kafka"), (registry, 8080, "platform"), (catalog, 5432, "platform"), (store, 9000, "platform")
    ):  # fmt: skip
        assert (ports(rule), namespaces(rule)) == ([(port, "TCP")], named(namespace))
    assert ports(server) == [(6443, "TCP")]
    assert peers == {"to": [{"podSelector": spec["podSelector"]}]}
    for port in (53, 80, 443, 988, 6443):
        assert port == 53 or not reaches(spec, port, LINK_LOCAL)
    assert not reaches(spec, 80, "93.184.216.34")


def test_workload_identity_opens_what_clouds_serve_it_at(manifests):
    aws = {"s3_endpoint": "", "s3_secret": ""}
    spec = policy(manifests, "jobs", platform=aws)
    assert reaches(spec, 80, LINK_LOCAL)
    assert reaches(spec, 443, "52.216.0.1")
    files = {"warehouse": "file:///w", "checkpoints": "file:///c", "s3_endpoint": "", "s3_secret": ""}
    assert not reaches(policy(manifests, "jobs", platform=files), 80, LINK_LOCAL)
