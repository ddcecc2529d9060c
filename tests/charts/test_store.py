"""The store's users: each component has its own keys, and with a real MinIO they may do what they need and no more."""

import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pyarrow.fs import FileSelector, S3FileSystem

from tests.apiserver.support.servers import free_port, running
from tests.charts.rendering import CHARTS, Manifest, needs_helm, of_kind, render
from tests.charts.store_client import read, refused, write

CHART = "k2-platform"
SCRIPT = CHARTS / CHART / "files/store.sh"
BINARIES = os.environ.get("KUBEBUILDER_ASSETS", "")
PROGRAMS = {name: shutil.which(name, path=f"{os.environ['PATH']}:{BINARIES}") or "" for name in ("minio", "mc")}
KEYS = {"root": ("k2-platform", "root-secret-key")} | {
    user: (f"k2-{user}", f"secret-key-of-{user}") for user in ("jobs", "audit", "query")
}

pytestmark = needs_helm


def secrets_of(pod: Manifest) -> set[str]:
    """Return the Secrets of the store that a pod reads, in variables and volumes."""
    names = set()
    for container in pod["containers"]:
        for entry in container.get("env", ()):
            names.add(entry.get("valueFrom", {}).get("secretKeyRef", {}).get("name", ""))
    for volume in pod.get("volumes", ()):
        names.add(volume.get("secret", {}).get("secretName", ""))
        names |= {source.get("secret", {}).get("name", "") for source in volume.get("projected", {}).get("sources", ())}
    return {name for name in names if name.startswith("k2-s3")}


def pods(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Yield name and pod spec of each workload."""
    for kind in ("Deployment", "StatefulSet", "Job", "CronJob", "Pod"):
        for manifest in of_kind(manifests, kind):
            spec = manifest["spec"]
            spec = spec["jobTemplate"]["spec"] if kind == "CronJob" else spec
            yield manifest["metadata"]["name"], spec if kind == "Pod" else spec["template"]["spec"]


def test_root_keys_are_in_the_store_and_the_job_of_the_bucket_only_and_each_client_has_its_own():
    used = {name: secrets for name, pod in pods(render(CHART)) if (secrets := secrets_of(pod))}
    assert used == {
        "k2-minio": {"k2-s3"},
        "k2-bucket": {"k2-s3", "k2-s3-jobs", "k2-s3-audit", "k2-s3-query"},
        "k2-audit": {"k2-s3-audit"},
        "k2-query": {"k2-s3-query"},
        "k2-catalog-init": {"k2-s3-jobs"},
    }


def test_an_external_store_has_no_keys_that_are_not_named():
    values = {"store": {"type": "external"}, "s3": {"users": {"query": {"existingSecret": "k2-s3-readers"}}}}
    manifests = render(CHART, values=values)
    used = {name: secrets for name, pod in pods(manifests) if (secrets := secrets_of(pod))}
    assert used == {"k2-query": {"k2-s3-readers"}}
    assert not {"k2-bucket", "k2-minio"} & {name for name, _ in pods(manifests)}


@dataclass
class Store:
    """A MinIO with what the chart's job made in it."""

    address: str
    folder: Path
    environment: dict[str, str]

    def run_job(self) -> str:
        """Run the command of the chart's job, and return its output."""
        command = ["sh", "-ec", SCRIPT.read_text()]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def client(self, user: str, secret: str = "") -> S3FileSystem:
        """Return a client with a user's keys."""
        access, own = KEYS[user]
        return S3FileSystem(
            access_key=access,
            secret_key=secret or own,
            endpoint_override=self.address,
            scheme="http",
            region="us-east-1",
            allow_bucket_creation=True,
        )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    if missing := [name for name, path in PROGRAMS.items() if not path]:
        pytest.skip(f"{' and '.join(missing)} are neither in PATH nor in KUBEBUILDER_ASSETS")
    folder = tmp_path_factory.mktemp("store")
    manifests = render(CHART)
    for user, (access, secret) in KEYS.items():
        (folder / user).mkdir()
        (folder / user / "access-key").write_text(access)
        (folder / user / "secret-key").write_text(secret)
    (folder / "policies").mkdir()
    (config,) = [each for each in of_kind(manifests, "ConfigMap") if each["metadata"]["name"] == "k2-store-policies"]
    for name, text in config["data"].items():
        (folder / "policies" / name).write_text(text)
    job = next(each for each in of_kind(manifests, "Job") if each["metadata"]["name"] == "k2-bucket")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["args"] == [SCRIPT.read_text()]
    address = f"127.0.0.1:{free_port()}"
    variables = {entry["name"]: entry["value"] for entry in container["env"]}
    variables |= {"ENDPOINT": f"http://{address}", "FOLDER": str(folder), "MC_CONFIG_DIR": str(folder / "mc")}
    environment = os.environ | variables | {"PATH": f"{os.environ['PATH']}:{BINARIES}"}
    server = {
        "MINIO_ROOT_USER_FILE": str(folder / "root/access-key"),
        "MINIO_ROOT_PASSWORD_FILE": str(folder / "root/secret-key"),
        "MINIO_BROWSER": "off",
        "HOME": str(folder),
    }
    command = [PROGRAMS["minio"], "server", str(folder / "data"), "--address", address]
    with running(folder / "minio.log", command, env=os.environ | server):
        _wait(f"http://{address}/minio/health/live")
        running_store = Store(address, folder, environment)
        running_store.run_job()
        yield running_store


def _wait(url: str) -> None:
    for _ in range(300):
        try:
            urllib.request.urlopen(url, timeout=2).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError(url)


@pytest.mark.parametrize("user", ["jobs", "audit"])
def test_jobs_and_audit_read_write_and_remove(store: Store, user: str):
    client = store.client(user)
    path = f"k2-lake/warehouse/{user}.parquet"
    write(client, path, b"x" * (6 << 20))  # in parts
    assert len(read(client, path)) == 6 << 20
    assert [info.path for info in client.get_file_info(FileSelector("k2-lake/warehouse")) if user in info.path] == [
        path
    ]
    client.delete_file(path)


def test_the_query_service_reads_and_changes_nothing(store: Store):
    jobs, query = store.client("jobs"), store.client("query")
    write(jobs, "k2-lake/warehouse/gold.parquet", b"gold")
    assert read(query, "k2-lake/warehouse/gold.parquet") == b"gold"
    assert query.get_file_info(FileSelector("k2-lake/warehouse"))
    assert refused(lambda: write(query, "k2-lake/warehouse/gold.parquet", b"forged"))
    assert refused(lambda: write(query, "k2-lake/warehouse/new.parquet"))
    assert refused(lambda: query.delete_file("k2-lake/warehouse/gold.parquet"))
    assert read(jobs, "k2-lake/warehouse/gold.parquet") == b"gold"


@pytest.mark.parametrize("user", ["jobs", "audit", "query"])
def test_no_user_reaches_another_bucket_or_administers(store: Store, user: str):
    root = store.client("root")
    root.create_dir("other")
    write(root, "other/secret", b"other")
    client = store.client(user)
    assert refused(lambda: read(client, "other/secret"))
    assert refused(lambda: write(client, "other/secret"))
    assert refused(lambda: client.create_dir("made-by-me"))
    access, secret = KEYS[user]
    alias = ["mc", "alias", "set", user, f"http://{store.address}", access, secret]
    subprocess.run(alias, env=store.environment, check=True, capture_output=True)
    for words in (["user", "list", user], ["policy", "list", user], ["user", "add", user, "another", "another-key"]):
        done = subprocess.run(["mc", "admin", *words], env=store.environment, capture_output=True, text=True)
        assert done.returncode != 0, words
        assert "Access Denied" in done.stdout + done.stderr


def test_the_job_runs_again_and_applies_changed_keys_without_printing_any(store: Store):
    said = store.run_job()
    (store.folder / "query/secret-key").write_text("another-secret-key")
    said += store.run_job()
    try:
        write(store.client("jobs"), "k2-lake/warehouse/again.parquet")
        assert read(store.client("query", "another-secret-key"), "k2-lake/warehouse/again.parquet") == b"data"
        assert refused(lambda: read(store.client("query"), "k2-lake/warehouse/again.parquet"))
    finally:
        (store.folder / "query/secret-key").write_text(KEYS["query"][1])
        said += store.run_job()
    assert "secret-key" not in said
