"""Connect to the Iceberg catalog with PyIceberg. Opening it for reading creates nothing."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from k2.query.errors import CatalogEmpty, Unavailable
from k2.schemas.tables import CATALOG

if TYPE_CHECKING:
    from pyiceberg.catalog.sql import SqlCatalog

    from k2.common.platform import Platform

_FILE_IO: Final = "pyiceberg.io.pyarrow.PyArrowFileIO"
_SQLITE: Final = "sqlite:///"
# Seconds. The AWS client's defaults are 1 and 3, with three attempts; a busy MinIO may take longer.
_S3_TIMEOUTS: Final = {"s3.connect-timeout": "5", "s3.request-timeout": "20"}
_POSTGRES_DRIVER: Final = "postgresql+psycopg2"  # the driver that K2 depends on, whatever SQLAlchemy's default is


def connect(platform: Platform, *, create: bool = False) -> SqlCatalog:
    """Return the platform's catalog; with `create`, create its database tables if they are missing.

    Raises `Unavailable` if its database does not exist or cannot be reached, `CatalogEmpty` if that has no tables.
    """
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


def _s3_properties(platform: Platform) -> dict[str, str]:
    """Return how to reach a warehouse in S3; credentials come from the environment, as for every S3 client."""
    if urlsplit(platform.warehouse).scheme != "s3":
        return {}
    properties = {
        "s3.region": platform.s3_region,
        "s3.force-virtual-addressing": str(not platform.s3_path_style).lower(),
        **_S3_TIMEOUTS,
    }
    return properties | ({"s3.endpoint": platform.s3_endpoint} if platform.s3_endpoint else {})


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
