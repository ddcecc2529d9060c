"""What is said of TLS to PostgreSQL reaches every client of it, or is refused."""

import pytest
from sqlalchemy import make_url

from k2.common.catalog import address
from k2.common.platform import Platform
from k2.common.validation_errors import InvalidSpec
from k2.jobs.spark import session
from k2.schemas.tables import CATALOG

TLS = "postgresql://db.example:5432/iceberg?sslmode=verify-full&sslrootcert=/etc/k2/pg/ca.crt"


@pytest.mark.parametrize(
    ("uri", "jdbc"),
    [
        (TLS, "jdbc:postgresql://db.example:5432/iceberg?sslmode=verify-full&sslrootcert=/etc/k2/pg/ca.crt"),
        ("postgresql+psycopg2://k2:secret@db/iceberg?sslmode=require", "jdbc:postgresql://db/iceberg?sslmode=require"),
        (
            "postgresql://db/iceberg?sslmode=require&sslrootcert=/ca.crt",
            "jdbc:postgresql://db/iceberg?sslmode=verify-ca&sslrootcert=/ca.crt",
        ),
        (
            "postgresql://db/iceberg?connect_timeout=5&application_name=k2%20jobs&channel_binding=require",
            "jdbc:postgresql://db/iceberg?connectTimeout=5&ApplicationName=k2%20jobs&channelBinding=require",
        ),
        (
            "postgresql://db/iceberg?sslmode=require&sslcert=/c.crt&sslkey=/c.key",
            "jdbc:postgresql://db/iceberg?sslmode=require&sslcert=/c.crt&sslkey=/c.key",
        ),
        ("postgresql://one,two:5433/iceberg", "jdbc:postgresql://one,two:5433/iceberg"),
        ("postgresql://[::1]:5432/iceberg", "jdbc:postgresql://[::1]:5432/iceberg"),
        ("sqlite:////data/it's/catalog.db", "jdbc:sqlite:/data/it's/catalog.db"),
    ],
)
def test_parameters_are_kept_in_jdbcs_words(uri: str, jdbc: str) -> None:
    assert address.jdbc(address.check(uri)) == jdbc


def test_the_same_parameters_reach_python_and_spark() -> None:
    platform = Platform(catalog_uri=TLS, catalog_user="k2")
    assert session.settings(platform)[f"spark.sql.catalog.{CATALOG}.uri"].endswith("sslrootcert=/etc/k2/pg/ca.crt")
    assert make_url(platform.catalog_uri).query == {"sslmode": "verify-full", "sslrootcert": "/etc/k2/pg/ca.crt"}


def test_user_and_password_of_a_uri_reach_spark_unless_variables_name_others() -> None:
    uri = "postgresql://k2:p%40ss@db/iceberg?sslmode=require"
    conf = session.settings(Platform(catalog_uri=uri))
    assert conf[f"spark.sql.catalog.{CATALOG}.uri"] == "jdbc:postgresql://db/iceberg?sslmode=require"
    assert conf[f"spark.sql.catalog.{CATALOG}.jdbc.user"] == "k2"
    assert conf[f"spark.sql.catalog.{CATALOG}.jdbc.password"] == "p@ss"
    other = session.settings(Platform(catalog_uri=uri, catalog_user="other"))
    assert other[f"spark.sql.catalog.{CATALOG}.jdbc.user"] == "other"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ("sslmode=verify-full", "sslrootcert"),
        ("sslmode=yes", "one of these as sslmode: disable"),
        ("sslmode=disable&sslmode=require", "each parameter once"),
        ("sslcert=/c.crt", "both sslcert and sslkey"),
        ("target_session_attrs=read-write", "remove target_session_attrs"),
        ("SSLMODE=require", "remove SSLMODE"),
        ("password=secret", "remove password"),
    ],
)
def test_what_a_client_would_ignore_is_refused(parameters: str, message: str) -> None:
    with pytest.raises(InvalidSpec, match=message) as refused:
        Platform.read(catalog_uri=f"postgresql://db/iceberg?{parameters}")
    assert "K2_CATALOG_URI" in str(refused.value)
    assert "secret" not in str(refused.value)
