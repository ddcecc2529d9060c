"""A REST catalog: its settings, what contradicts itself, and the properties that both of its clients get."""

from pathlib import Path

import pytest

from k2.common.catalog.connection import CatalogConnection, CatalogType
from k2.common.platform import Platform
from k2.common.validation_errors import InvalidSpec

REST = {"catalog_type": "rest", "catalog_uri": "http://catalog:8181", "warehouse": "s3://lake/tables"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"catalog_uri": "http://catalog:8181"}, "K2_CATALOG_URI: .* set K2_CATALOG_TYPE=rest"),
        ({"catalog_scope": "all"}, "K2_CATALOG_SCOPE: .* not used by a JDBC catalog"),
        ({"catalog_type": "rest"}, "K2_CATALOG_URI: .* must be the URL of a REST catalog"),
        (REST | {"catalog_uri": "postgresql://db/iceberg"}, "K2_CATALOG_URI: .* must be the URL of a REST catalog"),
        (REST | {"catalog_uri": "http://k2:hush@catalog"}, "K2_CATALOG_URI: .* must not hold a user name"),
        (REST | {"warehouse": "lake"}, "K2_WAREHOUSE: .* must be where the catalog puts its tables"),
        (REST | {"catalog_user": "k2"}, "K2_CATALOG_PASSWORD: required with K2_CATALOG_USER"),
        (REST | {"catalog_password": "hush"}, "K2_CATALOG_USER: required with K2_CATALOG_PASSWORD"),
        (
            REST | {"catalog_user": "k2", "catalog_password": "x", "catalog_token_file": "/token"},
            "K2_CATALOG_TOKEN_FILE: .* not used with K2_CATALOG_USER",
        ),
        (REST | {"catalog_scope": "all"}, "K2_CATALOG_SCOPE: .* used only with K2_CATALOG_USER"),
        (REST | {"catalog_oauth2_uri": "idp"}, "K2_CATALOG_OAUTH2_URI: .* begins with http://"),
        ({"catalog_type": "hive"}, "K2_CATALOG_TYPE: .* must be 'jdbc' or 'rest'"),
    ],
)
def test_what_contradicts_itself_is_refused_by_its_variables_name(settings: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidSpec, match=message) as refused:
        Platform.read(**settings)
    assert "hush" not in str(refused.value)


def test_the_warehouse_has_the_catalogs_name_for_it_or_that_of_the_place() -> None:
    assert Platform.read(**REST).catalog.rest_properties() == {
        "uri": "http://catalog:8181", "warehouse": "s3://lake/tables",
    }  # fmt: skip
    named = Platform.read(**REST, catalog_warehouse="market")
    assert named.catalog.rest_properties()["warehouse"] == "market"


def test_a_client_has_its_id_and_secret_or_the_token_that_a_file_holds_now(tmp_path: Path) -> None:
    own = Platform.read(**REST, catalog_user="k2", catalog_password="word", catalog_scope="PRINCIPAL_ROLE:ALL")
    assert own.catalog.rest_properties() == {
        "uri": "http://catalog:8181", "warehouse": "s3://lake/tables", "credential": "k2:word",
        "oauth2-server-uri": "http://catalog:8181/v1/oauth/tokens", "scope": "PRINCIPAL_ROLE:ALL",
    }  # fmt: skip
    assert "word" not in repr(own.catalog)
    file = tmp_path / "token"
    catalog = CatalogConnection(CatalogType.REST, "http://catalog", "s3://lake", token_file=str(file))
    with pytest.raises(FileNotFoundError, match="token"):
        catalog.rest_properties()
    for token in ("first", "second"):
        file.write_text(f"{token}\n")
        assert catalog.rest_properties()["token"] == token
