"""The registry client against the embedded registry."""

import json

import pytest

from k2.common.registry_connection import RegistryConnection
from k2.common.schema_registry import IncompatibleSchema, Registry, RegistryUnavailable, SchemaCache
from k2.schemas.codecs import avro


def newer(text: str, **field: object) -> str:
    schema = json.loads(text)
    schema["fields"].append({"name": "extra", **field})
    return json.dumps(schema)


NULLABLE = newer(avro.text(), type=["null", "string"], default=None)
REQUIRED = newer(avro.text(), type="string")


def test_registering_twice_gives_the_same_id(registry_url):
    registry = Registry(RegistryConnection(registry_url))
    assert registry.register("a-value", avro.text()) == Registry(RegistryConnection(registry_url)).register(
        "a-value", avro.text()
    )
    assert registry.versions("a-value") == [1]


def test_a_schema_has_one_id_under_every_subject(registry_url):
    registry = Registry(RegistryConnection(registry_url))
    assert registry.register("a-value", avro.text()) == registry.register("b-value", avro.text())


def test_a_subject_is_held_at_backward_from_its_first_schema_on(registry_url):
    registry = Registry(RegistryConnection(registry_url))
    registry.register("a-value", avro.text())
    with pytest.raises(IncompatibleSchema, match="a-value"):
        registry.register("a-value", REQUIRED)
    assert registry.versions("a-value") == [1]


def test_a_change_of_scale_is_refused_in_either_direction(registry_url):
    """Avro's rules allow it, and 1.5 would read as 0.00015."""
    registry = Registry(RegistryConnection(registry_url))
    registry.register("a-value", avro.text())
    for scale in (8, 13):
        with pytest.raises(IncompatibleSchema, match=rf"a-value: .*\(price: scale 12, not {scale}\)"):
            registry.register("a-value", avro.text().replace('"scale": 12', f'"scale": {scale}'))
    assert registry.versions("a-value") == [1]
    registry.register("a-value", NULLABLE)
    with pytest.raises(IncompatibleSchema, match="version 1 has decimals of another scale"):
        registry.register("a-value", NULLABLE.replace('"scale": 12', '"scale": 8'))
    assert registry.register("b-value", avro.text().replace('"scale": 12', '"scale": 8'))


def test_a_newer_schema_that_reads_all_before_gets_its_own_id(registry_url):
    registry = Registry(RegistryConnection(registry_url))
    first, second = registry.register("a-value", avro.text()), registry.register("a-value", NULLABLE)
    assert first != second
    assert registry.version("a-value", 1)[0] == first
    assert registry.version("a-value", 2)[0] == second
    assert json.loads(registry.version("a-value", 2)[1]) == json.loads(NULLABLE)


def test_a_subject_that_does_not_exist_has_no_versions(registry_url):
    assert Registry(RegistryConnection(registry_url)).versions("nothing-value") == []


def test_a_cache_holds_every_schema_of_its_subject_by_id(registry_url):
    registry = Registry(RegistryConnection(registry_url))
    first = registry.register("a-value", avro.text())
    cache = SchemaCache(registry, "a-value")
    assert list(cache.schemas()) == [first]
    second = registry.register("a-value", NULLABLE)
    assert set(cache.schemas()) == {first, second}


def test_a_version_that_does_not_exist_is_an_error_not_an_empty_schema(registry_url):
    registry = Registry(RegistryConnection(registry_url))
    registry.register("a-value", avro.text())
    with pytest.raises(RegistryUnavailable, match=registry_url):
        registry.version("a-value", 9)


def test_a_registry_that_does_not_answer_is_named():
    registry = Registry(RegistryConnection("http://127.0.0.1:1"))
    for call in (lambda: registry.register("a-value", avro.text()), lambda: registry.versions("a-value")):
        with pytest.raises(RegistryUnavailable, match=r"schema registry at http://127\.0\.0\.1:1"):
            call()


def test_registry_credentials_are_redacted():
    with pytest.raises(RegistryUnavailable, match=r"schema registry at http://\*\*\*@127\.0\.0\.1:1: ") as raised:
        Registry(RegistryConnection("http://bob:hunter2@127.0.0.1:1")).versions("a-value")
    assert "hunter2" not in str(raised.value)
