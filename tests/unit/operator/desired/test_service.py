def test_the_service_selects_every_pod_with_metrics_ready_or_not(manifests):
    (service,) = manifests("Service")
    drivers = [manifest["spec"]["driver"] for manifest in manifests("SparkApplication")]
    (deployment,) = manifests("Deployment")
    spec = service["spec"]
    assert spec["clusterIP"] == "None"
    assert spec["publishNotReadyAddresses"] is True
    for labels in [deployment["spec"]["template"]["metadata"]["labels"], *(driver["labels"] for driver in drivers)]:
        assert spec["selector"].items() <= labels.items()
    manifests_by_name = {deployment["spec"]["template"]["spec"]["containers"][0]["ports"][0]["name"]}
    manifests_by_name |= {driver["template"]["spec"]["containers"][0]["ports"][0]["name"] for driver in drivers}
    assert manifests_by_name == {spec["ports"][0]["targetPort"]}
