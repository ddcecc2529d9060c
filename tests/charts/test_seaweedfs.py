"""SeaweedFS as the charts' store, with its catalog: in a real one, users may do what they need and no more."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pyarrow.fs import FileSelector, S3FileSystem

from k2.common.platform import Platform
from k2.query.errors import Unavailable
from k2.query.iceberg import catalog, tables
from k2.schemas.tables import GOLD_TABLE, NAMESPACE
from tests import seaweedfs
from tests.apiserver.support.servers import eventually
from tests.charts.rendering import CHARTS, Manifest, needs_helm, of_kind, render, render_error
from tests.charts.store_client import read, refused, write

CHART = "k2-platform"
SCRIPT = CHARTS / CHART / "files/identities.py"
STORE = {"store": {"type": "seaweedfs"}}
BOTH = STORE | {"catalog": {"type": "rest"}}
ALONE = BOTH | {"registry": {"storage": {"type": "file"}}, "postgres": {"enabled": False}}
KEYS = {user: (f"k2-{user}", f"secret-key-of-{user}") for user in ("jobs", "audit", "query")}
OWN_FLAGS = ("-dir=", "-s3.config=", "-ip=", "-ip.bind=", "-s3.port.iceberg=8181")  # which the test sets itself

pytestmark = needs_helm


def pod(manifests: list[Manifest]) -> Manifest:
    """Return the pod of the store."""
    (store,) = [each for each in of_kind(manifests, "StatefulSet") if each["metadata"]["name"] == "k2-seaweedfs"]
    spec: Manifest = store["spec"]["template"]["spec"]
    return spec


def test_a_platform_with_seaweedfs_and_its_catalog_has_neither_minio_nor_postgresql():
    manifests = render(CHART, values=ALONE)
    names = {each["metadata"]["name"] for each in manifests}
    assert not {name for name in names if "minio" in name or "postgres" in name or "bucket" in name}
    assert {"k2-seaweedfs", "k2-registry"} <= names
    assert not {"k2-s3", "k2-catalog", "k2-catalog-query"} & names
    (registry,) = [each for each in of_kind(manifests, "Deployment") if each["metadata"]["name"] == "k2-registry"]
    assert registry["spec"]["strategy"] == {"type": "Recreate"}
    assert "initContainers" not in registry["spec"]["template"]["spec"]
    (claim,) = of_kind(manifests, "PersistentVolumeClaim")
    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_each_component_has_the_keys_of_its_own_user_for_store_and_catalog():
    manifests = render(CHART, values=BOTH)
    pods = {each["metadata"]["name"]: each["spec"]["template"]["spec"] for each in of_kind(manifests, "Deployment")}
    pods |= {each["metadata"]["name"]: each["spec"]["template"]["spec"] for each in of_kind(manifests, "Job")}
    (audit,) = of_kind(manifests, "CronJob")
    pods["k2-audit"] = audit["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    for name, user in {"k2-query": "query", "k2-audit": "audit", "k2-catalog-init": "jobs"}.items():
        (container,) = pods[name]["containers"]
        secrets = {
            each["name"]: tuple(each["valueFrom"]["secretKeyRef"].values())
            for each in container["env"]
            if "secretKeyRef" in each.get("valueFrom", {})
        }
        assert set(secrets["AWS_ACCESS_KEY_ID"]) == set(secrets["K2_CATALOG_USER"]) == {"access-key", f"k2-s3-{user}"}
        assert set(secrets["K2_CATALOG_PASSWORD"]) == {"secret-key", f"k2-s3-{user}"}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (STORE | {"networkPolicy": {"enabled": False}}, "only a NetworkPolicy closes them"),
        (STORE | {"s3": {"existingSecret": "root"}}, "store.type is seaweedfs, which has none: remove it"),
        (STORE | {"s3": {"endpoint": "https://s3.example"}}, "s3.endpoint is set, but store.type is seaweedfs"),
        (BOTH | {"s3": {"warehouse": "s3://x"}}, "remove s3.warehouse and s3.checkpoints"),
        (STORE | {"catalog": {"type": "rest", "scope": "all"}}, "the catalog is SeaweedFS's own"),
        ({"catalog": {"type": "rest"}}, "or store.type to seaweedfs, which has one"),
        (ALONE | {"postgres": {"enabled": True}}, "nothing uses PostgreSQL"),
        ({"registry": {"storage": {"type": "file"}, "replicas": 2}}, "which one process alone can open"),
        ({"registry": {"storage": {"type": "file"}, "existingSecret": "x"}}, "are for PostgreSQL, but"),
    ],
)
def test_values_that_contradict_each_other_are_refused_with_a_sentence(values: dict[str, Any], sentence: str):
    assert sentence in render_error(CHART, values)


def test_only_s3_and_the_catalog_are_open_to_clients():
    for values, ports in ((STORE, [8333]), (BOTH, [8333, 8181])):
        manifests = render(CHART, values=values)
        (policy,) = [each for each in of_kind(manifests, "NetworkPolicy") if each["metadata"]["name"] == "k2-seaweedfs"]
        (rule,) = policy["spec"]["ingress"]
        assert [port["port"] for port in rule["ports"]] == ports
        (service,) = [each for each in of_kind(manifests, "Service") if each["metadata"]["name"] == "k2-seaweedfs"]
        assert [port["port"] for port in service["spec"]["ports"]] == ports


@dataclass
class Store:
    """A SeaweedFS with the users and the command line of the chart."""

    server: seaweedfs.SeaweedFS
    bucket: str = "k2-lake"

    def client(self, user: str, secret: str = "") -> S3FileSystem:
        """Return a client with a user's keys."""
        access, own = KEYS[user]
        return S3FileSystem(
            access_key=access,
            secret_key=secret or own,
            endpoint_override=self.server.s3.removeprefix("http://"),
            scheme="http",
            region="us-east-1",
            allow_bucket_creation=True,
        )

    def platform(self, user: str) -> Platform:
        """Return the settings of a client of the catalog."""
        return Platform.read(
            catalog_type="rest",
            catalog_uri=self.server.catalog,
            catalog_user=KEYS[user][0],
            catalog_password=KEYS[user][1],
            warehouse=f"s3://{self.bucket}",
            s3_endpoint=self.server.s3,
        )


def _run(folder: Path, values: Manifest) -> Iterator[Store]:
    if not seaweedfs.WEED:
        pytest.skip(seaweedfs.MISSING)
    spec = pod(render(CHART, values=values))
    for user, (access, secret) in KEYS.items():
        (folder / user).mkdir()
        (folder / user / "access-key").write_text(f"{access}\n")
        (folder / user / "secret-key").write_text(secret)
    (init,), (container,) = spec["initContainers"], spec["containers"]
    assert init["args"] == [SCRIPT.read_text()]
    variables = {each["name"]: each["value"] for each in init["env"]}
    file = folder / "identities.json"
    variables |= {"FOLDER": str(folder), "IDENTITIES": str(file)}
    said = subprocess.run(
        [sys.executable, "-c", SCRIPT.read_text()], env=os.environ | variables, check=True, capture_output=True
    )
    assert (said.stdout, file.stat().st_mode & 0o007) == (b"", 0)
    words = [flag for flag in container["args"] if not flag.startswith(OWN_FLAGS)]
    if "-s3.port.iceberg=0" in words:
        words.remove("-s3.port.iceberg=0")
    with seaweedfs.running(folder / "data", file, words) as server:
        store = Store(server)
        # Its ports answer about two seconds before its flags have made the buckets.
        eventually(lambda: not fails(lambda: write(store.client("jobs"), "k2-lake-checkpoints/made")))
        yield store


def fails(call: Callable[[], Any]) -> bool:
    """Return whether the store refuses a call, for whatever reason."""
    try:
        call()
    except OSError:
        return True
    return False


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    yield from _run(tmp_path_factory.mktemp("store"), BOTH)


@pytest.mark.parametrize("user", ["jobs", "audit"])
def test_jobs_and_audit_read_write_and_remove(store: Store, user: str):
    client, path = store.client(user), f"k2-lake-checkpoints/feeds/{user}/offsets/0"
    write(client, path, b"x" * (6 << 20))  # in parts
    assert len(read(client, path)) == 6 << 20
    assert client.get_file_info(FileSelector(f"k2-lake-checkpoints/feeds/{user}/offsets"))
    client.delete_file(path)


def test_the_query_service_reads_tables_and_changes_nothing(store: Store, monkeypatch: pytest.MonkeyPatch):
    as_user(monkeypatch, "jobs")
    writer = catalog.connect(store.platform("jobs"))
    (gold,) = tables.ensure(writer, [GOLD_TABLE])
    path = f"{gold.location().removeprefix('s3://')}/data/rows.parquet"
    jobs, query = store.client("jobs"), store.client("query")
    write(jobs, path, b"gold")

    as_user(monkeypatch, "query")
    reader = catalog.connect(store.platform("query"))
    assert reader.load_table((NAMESPACE, GOLD_TABLE.name)).metadata_location == gold.metadata_location
    assert read(query, path) == b"gold"
    assert refused(lambda: write(query, path, b"forged"))
    assert refused(lambda: query.delete_file(path))
    assert refused(lambda: write(query, "k2-lake-checkpoints/feeds/forged"))
    assert refused(lambda: read(query, "k2-lake-checkpoints/feeds/forged"))
    for change in (
        lambda: reader.drop_table((NAMESPACE, GOLD_TABLE.name)),
        lambda: reader.create_namespace("other"),
        lambda: tables.create(reader, GOLD_TABLE).transaction().set_properties(forged="1").commit_transaction(),
    ):
        with pytest.raises(Exception, match=r"(?i)forbidden|denied|not authorized|no permission"):
            change()
    assert read(jobs, path) == b"gold"
    assert writer.load_table((NAMESPACE, GOLD_TABLE.name)).metadata_location == gold.metadata_location


def as_user(monkeypatch: pytest.MonkeyPatch, user: str) -> None:
    """Give this process's clients of S3 a user's keys."""
    for name, value in zip(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), KEYS[user], strict=True):
        monkeypatch.setenv(name, value)


def test_who_has_no_key_reaches_neither_store_nor_catalog(store: Store):
    assert refused(lambda: read(store.client("query", "wrong"), "k2-lake/market_data/x"))
    anonymous = S3FileSystem(
        anonymous=True, endpoint_override=store.server.s3.removeprefix("http://"), scheme="http", region="us-east-1"
    )
    assert refused(lambda: anonymous.get_file_info(FileSelector("k2-lake")))
    unknown = store.platform("query").model_copy(update={"catalog_user": "k2-other"})
    with pytest.raises(Unavailable, match="cannot be read"):
        catalog.connect(unknown)
    open_ = store.platform("query").model_copy(update={"catalog_user": ""})
    with pytest.raises(Unavailable, match="cannot be read"):
        catalog.connect(open_)


def test_no_user_makes_buckets(store: Store):
    for user in KEYS:
        assert refused(lambda user=user: store.client(user).create_dir(f"made-by-{user}"))


def test_the_users_file_holds_only_their_actions():
    actions = json.loads(
        {e["name"]: e.get("value") for e in pod(render(CHART, values=STORE))["initContainers"][0]["env"]}["USERS"]
    )
    assert actions["query"] == ["Read:k2-lake", "List:k2-lake"]
    assert actions["jobs"] == actions["audit"] == ["Read:k2-lake", "List:k2-lake", "Write:k2-lake"]
