"""Readiness: a server over a platform without trades is ready."""

from contextlib import closing

from starlette.testclient import TestClient

from k2.cli.embedded.layout import Layout
from k2.query.iceberg import catalog


def test_a_platform_without_tables_is_ready(api: TestClient, layout: Layout):
    layout.root.mkdir()
    assert api.get("/readyz").status_code == 503  # there is no catalog
    catalog.connect(layout.platform(), create=True).close()
    assert api.get("/readyz").status_code == 200
    answer = api.get("/v1/trades?symbol=BTCUSDT")
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
    assert "Retry-After" in answer.headers


def test_a_catalog_that_goes_away_is_not_ready(api: TestClient, layout: Layout):
    layout.root.mkdir()
    with closing(catalog.connect(layout.platform(), create=True)):
        assert api.get("/readyz").status_code == 200
    for path in layout.root.rglob("catalog.db*"):
        path.write_bytes(b"not a database")
    assert api.get("/readyz").status_code == 503
