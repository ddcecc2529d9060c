def test_the_budget_never_allows_evicting_both_replicas_of_a_shard(manifests):
    (budget,) = manifests("PodDisruptionBudget", ingest={"redundancy": 2})
    assert budget["spec"]["maxUnavailable"] == 1
    for deployment in manifests("Deployment", ingest={"redundancy": 2}):
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert budget["spec"]["selector"]["matchLabels"].items() <= labels.items()
