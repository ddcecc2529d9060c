"""Static files under /console/ and their security headers."""

from importlib.resources import files
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from k2.cli.embedded.layout import Layout
from k2.query.api.app import create
from k2.query.api.settings import ApiSettings

FOLDER = files("k2.query.console").joinpath("files")


@pytest.fixture
def api(tmp_path: Path) -> TestClient:
    """Return a client of an application without tables; the console is served all the same."""
    app = create(ApiSettings.read(), Layout.at(tmp_path).platform())
    return TestClient(app, base_url="http://localhost", follow_redirects=False)


def test_the_root_redirects_to_the_console(api: TestClient):
    for path in ("/", "/console"):
        assert (api.get(path).status_code, api.get(path).headers["location"]) == (307, "/console/")
    assert api.get("/console/").text == FOLDER.joinpath("index.html").read_text("utf-8")


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.iterdir()))
def test_every_file_has_its_media_type_and_a_strict_policy(api: TestClient, name: str):
    answer = api.get(f"/console/{name}")
    assert answer.content == FOLDER.joinpath(name).read_bytes()
    kinds = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
    assert answer.headers["content-type"].startswith(kinds[Path(name).suffix])
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_an_unchanged_file_gets_304(api: TestClient):
    first = api.get("/console/main.js")
    again = api.get("/console/main.js", headers={"If-None-Match": f'"other", W/{first.headers["etag"]}'})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert api.get("/console/main.js", headers={"If-None-Match": '"other"'}).content == first.content
    assert first.headers["cache-control"] == "no-cache"


def test_the_chart_library_comes_from_its_package(api: TestClient):
    import bn_lightweight_charts

    (folder,) = bn_lightweight_charts.__path__
    answer = api.get("/console/lightweight-charts.js")
    assert answer.content == (Path(folder) / "js/lightweight-charts.js").read_bytes()
    assert b"Lightweight Charts" in answer.content[:200]


@pytest.mark.parametrize(
    "path", ["nothing.js", "..%2Fserving.py", "%2e%2e/serving.py", "__init__.py", "..%2f..%2fengine.py"]
)
def test_no_other_file_is_served(api: TestClient, path: str):
    answer = api.get(f"/console/{path}")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


def test_no_page_has_inline_scripts_or_styles():
    page = FOLDER.joinpath("index.html").read_text("utf-8")
    assert "<style" not in page
    assert " style=" not in page
    assert all("src=" in line for line in page.splitlines() if "<script" in line)
    for path in FOLDER.iterdir():
        assert "innerHTML" not in path.read_text("utf-8")
