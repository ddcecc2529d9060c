"""The OpenAPI document matches the server: schemathesis sends what the document allows, and more."""

import json
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance

from k2.cli.embedded.layout import Layout
from k2.query.api.openapi import document
from k2.schemas.tables import GOLD_BOOK_TABLE
from tests.unit.query.api.conftest import Serve
from tests.unit.query.conftest import Append, trade
from tests.unit.query.quotes import quote, store

CHECKED_IN = Path(__file__).parents[4] / "docs" / "reference" / "openapi.json"


OPERATIONS = [
    (path, method)
    for path, methods in document()["paths"].items()
    for method in methods
    if not path.startswith(("/v1/stream", "/v1/replay"))
]


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_every_response_conforms_to_the_document(
    serve: Serve, append: Append, layout: Layout, path: str, method: str
) -> None:
    append([trade(1), trade(2, 1)])
    store(layout, [quote(1)])
    store(layout, [], GOLD_BOOK_TABLE)
    app = serve(rate_anonymous="1000000/minute").app
    described = schemathesis.openapi.from_asgi("/openapi.json", app, headers={"Host": "localhost"})

    @given(case=described[path][method.upper()].as_strategy())
    @settings(
        max_examples=10 if "dead-letters" in path else 25,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def check(case: Case) -> None:
        answer = case.call(headers={"Host": "localhost"})
        if answer.status_code == 503 and "Kafka" in answer.json()["detail"]:  # there is none here
            assert int(answer.headers["retry-after"][0]) > 0
            return
        case.validate_response(answer, checks=[not_a_server_error, status_code_conformance, content_type_conformance])

    check()


def test_the_committed_document_is_current() -> None:
    assert json.loads(CHECKED_IN.read_text("utf-8")) == document()
