"""The embedded schema registry: its HTTP API and its file."""

import json
import urllib.error
import urllib.request

import pytest

from k2.cli.embedded.registry import application
from k2.cli.embedded.schema_store import Incompatible, InvalidSchema, SchemaStore

ONE = '{"type":"record","name":"R","fields":[{"name":"a","type":"long"}]}'
MORE = '{"type":"record","name":"R","fields":[{"name":"a","type":"long"},{"name":"b","type":"long","default":0}]}'
LESS = '{"type":"record","name":"R","fields":[{"name":"z","type":"long"}]}'


@pytest.fixture
def ask(registry_url):
    """Send a request to the registry; return status and body."""

    def send(method: str, path: str, body: object = None, raw: bytes | None = None) -> tuple[int, object]:
        data = raw if raw is not None else json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(registry_url + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                assert answer.headers["Content-Type"] == "application/vnd.schemaregistry.v1+json"
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    return send


def register(ask, subject: str, text: str) -> tuple[int, object]:
    return ask("POST", f"/subjects/{subject}/versions", {"schema": text, "schemaType": "AVRO"})


def test_a_registered_schema_is_found_by_id_subject_and_version(ask):
    status, answer = register(ask, "a-value", ONE)
    assert status == 200
    number = answer["id"]
    assert ask("GET", f"/schemas/ids/{number}") == (200, {"schema": ONE})
    assert ask("GET", "/subjects") == (200, ["a-value"])
    assert ask("GET", "/subjects/a-value/versions") == (200, [1])
    version_info = {"subject": "a-value", "version": 1, "id": number, "schema": ONE}
    for version in ("1", "latest"):
        assert ask("GET", f"/subjects/a-value/versions/{version}") == (200, version_info)
    assert ask("POST", "/subjects/a-value", {"schema": ONE})[1]["id"] == number


def test_the_same_schema_in_another_spelling_is_the_same_version(ask):
    first = register(ask, "a-value", ONE)
    assert register(ask, "a-value", json.dumps(json.loads(ONE), indent=4)) == first
    assert ask("GET", "/subjects/a-value/versions") == (200, [1])


def test_a_schema_has_one_id_under_every_subject(ask):
    assert register(ask, "a-value", ONE) == register(ask, "b-value", ONE)


def test_backward_is_enforced_with_409_once_it_is_set(ask):
    register(ask, "a-value", ONE)
    assert ask("PUT", "/config/a-value", {"compatibility": "BACKWARD"}) == (200, {"compatibility": "BACKWARD"})
    assert ask("GET", "/config/a-value") == (200, {"compatibilityLevel": "BACKWARD"})
    status, answer = register(ask, "a-value", LESS)
    assert (status, answer["error_code"]) == (409, 409)
    assert "BACKWARD" in answer["message"]
    assert register(ask, "a-value", MORE)[0] == 200
    assert ask("GET", "/subjects/a-value/versions") == (200, [1, 2])


def test_without_a_level_any_schema_is_accepted(ask):
    register(ask, "a-value", ONE)
    assert register(ask, "a-value", LESS)[0] == 200


def test_the_global_level_holds_where_a_subject_has_none(ask):
    assert ask("PUT", "/config", {"compatibility": "FULL"})[0] == 200
    register(ask, "a-value", ONE)
    assert ask("GET", "/config/a-value")[0] == 404
    assert ask("GET", "/config/a-value?defaultToGlobal=true") == (200, {"compatibilityLevel": "FULL"})
    assert register(ask, "a-value", LESS)[0] == 409


@pytest.mark.parametrize(("text", "compatible"), [(MORE, True), (LESS, False)])
def test_compatibility_can_be_checked_without_registering(ask, text, compatible):
    register(ask, "a-value", ONE)
    ask("PUT", "/config/a-value", {"compatibility": "BACKWARD"})
    path = "/compatibility/subjects/a-value/versions/latest"
    assert ask("POST", path, {"schema": text}) == (200, {"is_compatible": compatible})
    assert ask("GET", "/subjects/a-value/versions") == (200, [1])


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/subjects/none/versions", 404, 40401),
        ("GET", "/subjects/none/versions/1", 404, 40401),
        ("GET", "/subjects/a-value/versions/9", 404, 40402),
        ("GET", "/subjects/a-value/versions/first", 422, 42202),
        ("GET", "/schemas/ids/999", 404, 40403),
        ("GET", "/schemas/ids/x", 404, 40403),
        ("GET", "/config/a-value", 404, 40408),
    ],
)
def test_missing_objects_have_confluents_error_codes(ask, method, path, status, code):
    register(ask, "a-value", ONE)
    actual, answer = ask(method, path)
    assert (actual, answer["error_code"]) == (status, code)
    assert answer["message"]


def test_a_schema_that_is_registered_elsewhere_only_is_not_found_here(ask):
    register(ask, "a-value", ONE)
    register(ask, "b-value", LESS)
    assert ask("POST", "/subjects/a-value", {"schema": LESS})[1]["error_code"] == 40403
    assert ask("POST", "/subjects/none", {"schema": ONE})[1]["error_code"] == 40401


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"[]", b"not json", b"{}", b'{"schema":1}', b'{"schema":"{"}', b'{"schema":"\\"nope\\""}',
        b'{"schema":"{\\"type\\":\\"record\\"}"}', b'{"schema":"[]","schemaType":"PROTOBUF"}', b'{"schema":"\xff"}',
        b'{"a":' * 100_000, b'{"schema":"' + b"[" * 100_000 + b'"}',
    ],
)  # fmt: skip
def test_an_invalid_schema_is_unprocessable(ask, raw):
    status, answer = ask("POST", "/subjects/a-value/versions", raw=raw)
    assert (status, answer["error_code"]) == (422, 42201)
    assert ask("GET", "/subjects") == (200, [])


def test_an_unknown_level_is_unprocessable(ask):
    status, answer = ask("PUT", "/config/a-value", {"compatibility": "SIDEWAYS"})
    assert (status, answer["error_code"]) == (422, 42203)
    assert "BACKWARD" in answer["message"]


def test_ids_are_the_same_after_a_restart(tmp_path, serve):
    path = tmp_path / "registry.db"
    first, second = SchemaStore(path).register("a", ONE), SchemaStore(path).register("b", LESS)
    SchemaStore(path).set_level("a", "BACKWARD")
    again = SchemaStore(path)
    assert (again.register("a", ONE), again.register("b", LESS)) == (first, second)
    assert (again.versions("a"), again.text(first), again.level("a")) == ([1], ONE, "BACKWARD")
    with pytest.raises(Incompatible):
        again.register("a", LESS)
    with urllib.request.urlopen(f"{serve(application(again))}/schemas/ids/{first}", timeout=10) as answer:
        assert json.loads(answer.read()) == {"schema": ONE}


@pytest.mark.parametrize("level", ["FORWARD", "FULL", "FULL_TRANSITIVE"])
def test_removing_a_field_violates_forward_compatibility(tmp_path, level):
    store = SchemaStore(tmp_path / "registry.db")
    store.register("a", '{"type":"record","name":"R","fields":[{"name":"a","type":"long"},{"name":"b","type":"long"}]}')
    store.set_level("a", level)
    with pytest.raises(Incompatible, match=level):
        store.register("a", ONE)


def test_a_transitive_level_checks_all_versions(tmp_path):
    store = SchemaStore(tmp_path / "registry.db")
    renamed = '{"type":"record","name":"R","fields":[{"name":"b","type":"long","default":0}]}'
    plain = '{"type":"record","name":"R","fields":[{"name":"b","type":"long"}]}'
    store.register("a", ONE)
    store.register("a", renamed)
    store.set_level("a", "BACKWARD")
    assert store.compatible("a", plain)
    store.set_level("a", "BACKWARD_TRANSITIVE")
    assert not store.compatible("a", plain)


def test_an_invalid_schema_is_rejected(tmp_path):
    with pytest.raises(InvalidSchema):
        SchemaStore(tmp_path / "registry.db").register("a", "{")


@pytest.mark.parametrize(
    "content", [b"this is no database, but long enough to be read as one" * 50, b"SQLite format 3\0junk"]
)
def test_a_corrupt_file_is_named_and_left_as_it_is(tmp_path, content):
    path = tmp_path / "registry.db"
    path.write_bytes(content)
    with pytest.raises(OSError, match=r"registry\.db") as error:
        SchemaStore(path)
    assert "is not a schema registry's database" in str(error.value)
    assert path.read_bytes() == content


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(OSError, match="absent"):
        SchemaStore(tmp_path / "absent" / "registry.db")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8081", "localhost.evil.example", ""])
def test_a_foreign_host_is_refused_for_every_method(registry_url, host: str):
    for method, path in (("GET", "/subjects"), ("POST", "/subjects/a-value/versions"), ("PUT", "/config")):
        request = urllib.request.Request(registry_url + path, b"{}" if method != "GET" else None, method=method)
        request.add_header("Content-Type", "application/json")
        request.add_unredirected_header("Host", host)
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=10)
        assert refused.value.code == 403
        assert "only requests to this machine" in refused.value.read().decode()


@pytest.mark.parametrize("content", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_a_body_that_a_web_page_may_send_without_being_asked_is_refused(registry_url, ask, content: str):
    body = json.dumps({"schema": ONE}).encode()
    headers = {"Content-Type": content}
    request = urllib.request.Request(f"{registry_url}/subjects/b-value/versions", body, headers, method="POST")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=10)
    assert refused.value.code == 415
    assert ask("GET", "/subjects") == (200, [])


def test_the_content_type_of_confluents_client_is_accepted(registry_url, ask):
    headers = {"Content-Type": "application/vnd.schemaregistry.v1+json; charset=utf-8"}
    body = json.dumps({"schema": ONE}).encode()
    request = urllib.request.Request(f"{registry_url}/subjects/c-value/versions", body, headers, method="POST")
    urllib.request.urlopen(request, timeout=10).close()
    assert ask("GET", "/subjects") == (200, ["c-value"])
