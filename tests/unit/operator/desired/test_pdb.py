def test_the_budget_never_lets_both_replicas_of_a_shard_go(made):
    (budget,) = made("PodDisruptionBudget", ingest={"redundancy": 2})
    assert budget["spec"]["maxUnavailable"] == 1
    for deployment in made("Deployment", ingest={"redundancy": 2}):
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert budget["spec"]["selector"]["matchLabels"].items() <= labels.items()
