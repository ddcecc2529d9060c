"""Connect to the Iceberg catalog, a database or a REST server, with PyIceberg. Reading creates nothing."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from k2.common.catalog.connection import CatalogType
from k2.query.errors import CatalogEmpty, Unavailable
from k2.schemas.tables import CATALOG, NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyiceberg.catalog import Catalog
    from pyiceberg.catalog.sql import SqlCatalog
    from pyiceberg.table import Table

    from k2.common.platform import Platform

_FILE_IO: Final = "pyiceberg.io.pyarrow.PyArrowFileIO"
_TRUSTING_FILE_IO: Final = "k2.query.iceberg.file_io.TrustingFileIO"
_CA_FILE: Final = "k2.s3.ca-file"  # of that class
_SQLITE: Final = "sqlite:///"
# Seconds. The AWS client's defaults are 1 and 3, with three attempts; a busy MinIO may take longer.
_S3_TIMEOUTS: Final = {"s3.connect-timeout": "5", "s3.request-timeout": "20"}
_POSTGRES_DRIVER: Final = "postgresql+psycopg2"  # the driver that K2 depends on, whatever SQLAlchemy's default is


def connect(platform: Platform, *, create: bool = False) -> Catalog:
    """Return the platform's catalog; with `create`, create its database tables if they are missing.

    Raises `Unavailable` if it does not exist or cannot be reached, `CatalogEmpty` if its database has no tables.
    """
    return _rest(platform) if platform.catalog_type is CatalogType.REST else _sql(platform, create=create)


def newest(catalog: Catalog, name: str, cached: Table | None) -> Table:
    """Return a table's current state: the `cached` one if it still is. Raises `NoSuchTableError`.

    A database is asked only for the location of the newest metadata file. A REST catalog answers with the metadata.
    """
    from pyiceberg.catalog.sql import SqlCatalog

    if isinstance(catalog, SqlCatalog):
        if cached is None or cached.metadata_location != _metadata_location(catalog, name):
            return catalog.load_table((NAMESPACE, name))
        return cached
    table = catalog.load_table((NAMESPACE, name))
    return cached if cached is not None and cached.metadata_location == table.metadata_location else table


@contextmanager
def catalog_errors(subject: str) -> Iterator[None]:
    """Raise errors of the catalog or the file system as `Unavailable`."""
    from pyiceberg.exceptions import RESTError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (OSError, SQLAlchemyError, RESTError) as error:
        raise Unavailable(f"{subject} cannot be read: {_one_line(error)}") from error


def _rest(platform: Platform) -> Catalog:
    from k2.query.iceberg.rest import ReadingCatalog

    with catalog_errors(f"the catalog {platform.catalog_uri}"):
        properties: dict[str, Any] = platform.catalog.rest_properties()
        properties |= {"py-io-impl": _FILE_IO} | _s3_properties(platform)
        if platform.catalog_ca_file:
            properties["ssl"] = {"cabundle": platform.catalog_ca_file}
        catalog = ReadingCatalog(CATALOG, **properties)
        catalog.namespace_exists(NAMESPACE)
    return catalog


def _sql(platform: Platform, *, create: bool) -> Catalog:
    uri = platform.catalog_uri
    if not create and uri.startswith(_SQLITE) and not Path(uri.removeprefix(_SQLITE)).is_file():
        raise Unavailable(f"there is no catalog at {uri.removeprefix(_SQLITE)}; start the platform with `k2 up` first")

    from pyiceberg.catalog.sql import SqlCatalog
    from sqlalchemy.exc import ProgrammingError, SQLAlchemyError

    try:
        catalog = SqlCatalog(
            CATALOG,
            **{
                "uri": _with_credentials(platform),
                "warehouse": platform.warehouse,
                "py-io-impl": _FILE_IO,
                "init_catalog_tables": str(create).lower(),
                **_s3_properties(platform),
            },
        )
        catalog.list_namespaces()
    except ProgrammingError as error:  # the database answers, but its tables do not exist
        raise CatalogEmpty(f"the catalog {_redacted(uri)} has no tables yet: {_one_line(error)}") from error
    except (SQLAlchemyError, ImportError) as error:
        raise Unavailable(f"the catalog {_redacted(uri)} cannot be read: {_one_line(error)}") from error
    return catalog


def _metadata_location(catalog: SqlCatalog, name: str) -> str | None:
    """Return the location of a table's metadata file; None if the table does not exist."""
    from pyiceberg.catalog.sql import IcebergTables
    from sqlalchemy import select
    from sqlalchemy.orm import Session

    row = select(IcebergTables.metadata_location).where(
        IcebergTables.catalog_name == catalog.name,
        IcebergTables.table_namespace == NAMESPACE,
        IcebergTables.table_name == name,
    )
    with Session(catalog.engine) as session:
        return session.scalar(row)


def _s3_properties(platform: Platform) -> dict[str, str]:
    """Return how to reach a warehouse in S3; credentials come from the environment, as for every S3 client."""
    if urlsplit(platform.warehouse).scheme != "s3":
        return {}
    properties = {
        "s3.region": platform.s3_region,
        "s3.force-virtual-addressing": str(not platform.s3_path_style).lower(),
        **_S3_TIMEOUTS,
    }
    if platform.s3_ca_file:
        properties |= {"py-io-impl": _TRUSTING_FILE_IO, _CA_FILE: platform.s3_ca_file}
    return properties | ({"s3.endpoint": platform.s3_endpoint} if platform.s3_endpoint else {})


def ca_file(table: Table) -> str:
    """Return the file of the authorities that a client of the table's files reads; empty without one."""
    return str(table.io.properties.get(_CA_FILE, ""))


def _with_credentials(platform: Platform) -> str:
    from sqlalchemy import make_url

    url = make_url(platform.catalog_uri)
    if url.drivername == "postgresql":
        url = url.set(drivername=_POSTGRES_DRIVER)
    if platform.catalog_user:
        url = url.set(username=platform.catalog_user, password=platform.catalog_password.get_secret_value())
    return url.render_as_string(hide_password=False)


def _redacted(uri: str) -> str:
    from sqlalchemy import make_url

    with suppress(Exception):
        return make_url(uri).render_as_string()
    return "of the platform"


def _one_line(error: Exception) -> str:
    cause = getattr(error, "orig", None) or error
    return " ".join(str(cause).split())[:300]
