"""The OpenAPI document is what the server does: schemathesis asks whatever it allows, and more."""

import json
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance

from k2.query.api.openapi import document
from tests.unit.api.conftest import Serve
from tests.unit.query.conftest import Append, trade

CHECKED_IN = Path(__file__).parents[3] / "docs" / "reference" / "openapi.json"


@pytest.fixture
def described(serve: Serve, append: Append) -> object:
    append([trade(1), trade(2, 1)])
    app = serve(rate_open="1000000/minute").app
    return schemathesis.openapi.from_asgi("/openapi.json", app).exclude(path_regex="^/v1/(stream|replay)")


schema = schemathesis.pytest.from_fixture("described")


@schema.parametrize()
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_request_breaks_the_server_or_its_word(case: Case) -> None:
    case.headers["Host"] = "localhost"
    checks = [not_a_server_error, status_code_conformance, content_type_conformance]
    case.call_and_validate(checks=checks)


def test_the_document_that_is_checked_in_is_the_server_s_own() -> None:
    assert json.loads(CHECKED_IN.read_text("utf-8")) == document()
