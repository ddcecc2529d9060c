from k2.operator.desired.jobs.purge import purge_job
from k2.operator.desired.naming import selector


def test_the_job_runs_under_the_restricted_profile_with_the_service_addresses(feed, settings):
    manifest = purge_job(feed(), settings(deletion_deadline="10m"), exchange=True)
    pod = manifest["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert manifest["metadata"]["name"] == "binance-purge"
    assert manifest["metadata"]["labels"]["k2.marketdata.io/feed"] == "binance"
    assert manifest["spec"]["template"]["metadata"]["labels"] == selector(feed(), "purge")
    assert manifest["spec"]["activeDeadlineSeconds"] == 600
    assert manifest["spec"]["ttlSecondsAfterFinished"] > 0
    assert (pod["restartPolicy"], pod["securityContext"]["runAsUser"]) == ("Never", 185)
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["command"] == ["python", "-m", "k2.jobs.purge"]
    assert container["args"] == ["--feed", "/etc/k2/feed.yaml", "--memory", "921m", "--exchange"]
    other = purge_job(feed(), settings(), exchange=False)["spec"]["template"]["spec"]["containers"][0]
    assert "--exchange" not in other["args"]
    variables = {variable["name"] for variable in container["env"]}
    assert variables >= {
        "K2_CATALOG_URI",
        "K2_CATALOG_PASSWORD",
        "K2_WAREHOUSE",
        "K2_CHECKPOINTS",
        "AWS_SECRET_ACCESS_KEY",
    }
    assert {volume["name"] for volume in pod["volumes"]} == {"feed", "tmp", "work"}
