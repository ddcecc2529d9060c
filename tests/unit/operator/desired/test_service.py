def test_the_service_names_every_pod_with_metrics_ready_or_not(made):
    (service,) = made("Service")
    drivers = [manifest["spec"]["driver"] for manifest in made("SparkApplication")]
    (deployment,) = made("Deployment")
    spec = service["spec"]
    assert spec["clusterIP"] == "None"
    assert spec["publishNotReadyAddresses"] is True
    for labels in [deployment["spec"]["template"]["metadata"]["labels"], *(driver["labels"] for driver in drivers)]:
        assert spec["selector"].items() <= labels.items()
    named = {deployment["spec"]["template"]["spec"]["containers"][0]["ports"][0]["name"]}
    named |= {driver["template"]["spec"]["containers"][0]["ports"][0]["name"] for driver in drivers}
    assert named == {spec["ports"][0]["targetPort"]}
