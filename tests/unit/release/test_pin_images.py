"""`make pin-images`, against a registry of the test's own that asks for a token."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from aiohttp import web
from httpx2 import Client

from release.pin_images import CHARTS, images, pin
from release.registry import DigestUnavailable, digest
from tests.background_server import serve

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}).encode()
TRUE = f"sha256:{hashlib.sha256(MANIFEST).hexdigest()}"


def _registry() -> web.Application:
    async def manifest(request: web.Request) -> web.Response:
        repository, tag = request.match_info["repository"], request.match_info["tag"]
        if request.headers.get("Authorization") != f"Bearer pull:{repository}":
            realm = f'Bearer realm="http://{request.host}/token",service="s",scope="repository:{repository}:pull"'
            return web.Response(status=401, headers={"WWW-Authenticate": realm})
        if tag == "absent":
            return web.json_response({"errors": [{"code": "MANIFEST_UNKNOWN"}]}, status=404)
        if tag == "html":
            return web.Response(text="<html>", content_type="text/html")
        announced = TRUE.replace("a", "b") if tag == "forged" else TRUE
        assert INDEX in request.headers["Accept"]
        return web.Response(body=MANIFEST, headers={"Content-Type": INDEX, "Docker-Content-Digest": announced})

    async def token(request: web.Request) -> web.Response:
        return web.json_response({"token": f"pull:{request.query['scope'].split(':')[1]}"})

    app = web.Application()
    app.router.add_get("/v2/{repository:.+}/manifests/{tag}", manifest)
    app.router.add_get("/token", token)
    return app


@pytest.fixture(scope="module")
def registry() -> Iterator[str]:
    with serve(_registry()) as url:
        yield url.removeprefix("http://")


def test_a_digest_is_computed_from_the_manifest_that_the_registry_serves_to_a_token(registry: str):
    with Client() as client:
        assert digest(client, f"{registry}/team/image", "1") == TRUE


@pytest.mark.parametrize(
    ("tag", "words"), [("absent", "answered 404"), ("forged", "but the manifest's bytes have"), ("html", "no manifest")]
)
def test_what_does_not_verify_is_refused(registry: str, tag: str, words: str):
    with Client() as client, pytest.raises(DigestUnavailable, match=words):
        digest(client, f"{registry}/team/image", tag)


def test_a_registry_that_cannot_be_reached_is_named():
    with Client() as client, pytest.raises(DigestUnavailable, match=r"127\.0\.0\.1:9 cannot be reached"):
        digest(client, "127.0.0.1:9/image", "1")


def _copies(folder: Path) -> Path:
    for chart in ("k2-operator", "k2-platform"):
        (folder / chart).mkdir()
        for name in ("Chart.yaml", "values.yaml"):
            shutil.copy(CHARTS / chart / name, folder / chart / name)
    return folder


def _values(folder: Path) -> dict[str, dict]:
    return {path.parent.name: yaml.safe_load(path.read_text()) for path in folder.glob("*/values.yaml")}


def _of(repository: str, tag: str) -> str:
    return f"sha256:{hashlib.sha256(f'{repository}:{tag}'.encode()).hexdigest()}"


def test_every_image_of_both_charts_is_pinned_and_nothing_else_changes(tmp_path: Path):
    folder = _copies(tmp_path)
    expected = _values(folder)
    for chart in ("k2-operator", "k2-platform"):
        version = yaml.safe_load((folder / chart / "Chart.yaml").read_text())["appVersion"]
        for image in expected[chart]["images"].values():
            image["digest"] = _of(image["repository"], image["tag"] or version)
    for _ in range(2):  # digests that are there already are replaced
        assert pin(folder, [], _of) == []
        assert _values(folder) == expected
    untouched = (CHARTS / "k2-platform/values.yaml").read_text().split("imagePullPolicy")[1]
    assert (folder / "k2-platform/values.yaml").read_text().split("imagePullPolicy")[1] == untouched


def test_only_named_images_are_pinned(tmp_path: Path):
    folder = _copies(tmp_path)
    assert pin(folder, ["k2-platform/ingest", "postgres"], _of) == []
    pinned = [name for chart in _values(folder).values() for name, image in chart["images"].items() if image["digest"]]
    assert sorted(pinned) == ["ingest", "postgres"]


def test_if_one_image_cannot_be_looked_up_nothing_is_written(tmp_path: Path):
    def lookup(repository: str, tag: str) -> str:
        if repository == "postgres":
            raise DigestUnavailable("the registry answered 404")
        return _of(repository, tag)

    folder = _copies(tmp_path)
    before = _values(folder)
    (problem,) = pin(folder, [], lookup)
    assert problem == "k2-platform/postgres (postgres:15-bookworm): the registry answered 404"
    assert pin(folder, ["postgress"], _of) == ["no chart has an image postgress"]
    assert _values(folder) == before


def test_no_chart_holds_a_digest_whose_schema_would_refuse_it():
    for chart in ("k2-operator", "k2-platform"):
        fields = json.loads((CHARTS / chart / "values.schema.json").read_text())["properties"]["images"]["properties"]
        names = {image.name for image in images(CHARTS / chart)}
        assert set(fields) == names
        assert {field["properties"]["digest"]["pattern"] for field in fields.values()} == {"^(sha256:[0-9a-f]{64})?$"}
