"""A registry with a certificate of its own authority, that asks who is there."""

import base64
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web

from k2.cli.embedded.registry import application
from k2.cli.embedded.schema_store import SchemaStore
from k2.common.platform import Platform
from k2.common.registry_connection import RegistryConnection
from k2.common.schema_registry import Registry, RegistryUnavailable
from k2.common.validation_errors import InvalidSpec
from k2.schemas.codecs import avro
from tests.background_server import serve
from tests.certificates import Authority


@dataclass
class Guarded:
    """A running registry; it answers only with this Authorization."""

    url: str
    ca_file: Path
    authorization: str = ""


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guarded]:
    authority = Authority("authority")
    registry = Guarded("", authority.write_certificate(tmp_path / "ca.crt"))
    certificate, key = authority.issue("registry", tmp_path / "server")

    @web.middleware
    async def check(request: web.Request, handler: object) -> web.StreamResponse:
        if request.headers.get("Authorization") != registry.authorization:
            return web.json_response({"error_code": 401, "message": "who are you"}, status=401)
        return await handler(request)  # type: ignore[operator]

    app = application(SchemaStore(tmp_path / "registry.db"))
    app.middlewares.append(check)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    with serve(app, context) as registry.url:
        yield registry


def test_a_user_with_a_password_that_is_rotated(guarded: Guarded, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("one\n")
    guarded.authorization = "Basic " + base64.b64encode(b"k2:one").decode()
    connection = RegistryConnection(
        guarded.url, ca_file=str(guarded.ca_file), username="k2", password_file=str(password)
    )
    registry = Registry(connection)
    assert registry.register("a-value", avro.text()) == 1
    guarded.authorization = "Basic " + base64.b64encode(b"k2:two").decode()
    with pytest.raises(RegistryUnavailable, match="who are you"):
        registry.versions("a-value")
    password.write_text("two")
    assert registry.versions("a-value") == [1]
    assert "two" not in repr(connection)
    password.unlink()
    with pytest.raises(RegistryUnavailable, match="password"):
        registry.versions("a-value")


def test_a_token(guarded: Guarded, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("abc")
    guarded.authorization = "Bearer abc"
    registry = Registry(RegistryConnection(guarded.url, ca_file=str(guarded.ca_file), token_file=str(token)))
    assert registry.register("a-value", avro.text()) == 1


def test_another_authority_is_named_and_heals_with_the_file(guarded: Guarded, tmp_path: Path) -> None:
    guarded.authorization = "Basic " + base64.b64encode(b"k2:one").decode()
    (tmp_path / "password").write_text("one")
    right, file = guarded.ca_file.read_bytes(), Authority("other").write_certificate(tmp_path / "current.crt")
    registry = Registry(
        RegistryConnection(guarded.url, str(file), username="k2", password_file=str(tmp_path / "password"))
    )
    with pytest.raises(RegistryUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
        registry.versions("a-value")
    file.write_bytes(right)
    assert registry.versions("a-value") == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"registry_username": "k2"}, "K2_REGISTRY_PASSWORD_FILE: required with K2_REGISTRY_USERNAME"),
        ({"registry_password_file": "/p"}, "K2_REGISTRY_USERNAME: required with K2_REGISTRY_PASSWORD_FILE"),
        ({"registry_ca_file": "/ca.crt"}, "K2_REGISTRY_CA_FILE: .* make that https://, or remove it"),
        (
            {"registry_username": "k2", "registry_password_file": "/p", "registry_token_file": "/t"},
            "K2_REGISTRY_TOKEN_FILE: .* remove one of them",
        ),
        (
            {"registry_url": "https://a:secret@registry", "registry_token_file": "/t"},
            "K2_REGISTRY_URL: .*remove K2_REGISTRY_TOKEN_FILE",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidSpec, match=message) as refused:
        Platform.read(**settings)
    assert "secret" not in str(refused.value)
