def test_a_pod_monitor_selects_pods_and_a_service_monitor_the_service(manifests):
    (pods,) = manifests("PodMonitor", platform={"monitor_labels": {"release": "prometheus"}})
    (services,) = manifests("ServiceMonitor", platform={"monitor": "ServiceMonitor"})
    (service,) = manifests("Service")
    assert pods["spec"]["selector"]["matchLabels"] == service["spec"]["selector"]
    assert pods["metadata"]["labels"]["release"] == "prometheus"
    assert pods["spec"]["podMetricsEndpoints"][0] == {"port": "metrics", "path": "/metrics", "interval": "15s"}
    assert services["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert services["spec"]["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]
    assert manifests("PodMonitor", platform={"monitor": "None"}) == []
