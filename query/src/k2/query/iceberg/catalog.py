"""The Iceberg catalog as Python reads it. Opening it for reading creates nothing."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from k2.common.platform import Platform
from k2.query.errors import NotYet, Unavailable
from k2.schemas.tables import CATALOG

if TYPE_CHECKING:
    from pyiceberg.catalog.sql import SqlCatalog

_FILE_IO: Final = "pyiceberg.io.pyarrow.PyArrowFileIO"
_SQLITE: Final = "sqlite:///"
# Seconds. Amazon's client by itself gives up after 1 and 3, thrice; a busy MinIO may take longer.
_PATIENCE: Final = {"s3.connect-timeout": "5", "s3.request-timeout": "20"}
_POSTGRES: Final = "postgresql+psycopg2"  # the driver that comes with K2, whichever SQLAlchemy would choose


def connect(platform: Platform, *, create: bool = False) -> "SqlCatalog":
    """The platform's catalog. With `create`, its tables are made if they are missing.

    Raises `Unavailable` if there is none, or if its database cannot be reached, `NotYet` if that is empty.
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
                **_bucket(platform),
            },
        )
        catalog.list_namespaces()
    except ProgrammingError as error:  # the database answers, and its tables are not there
        raise NotYet(f"the catalog {_shown(uri)} holds nothing yet: {_line(error)}") from error
    except (SQLAlchemyError, ImportError) as error:
        raise Unavailable(f"the catalog {_shown(uri)} cannot be read: {_line(error)}") from error
    return catalog


def _bucket(platform: Platform) -> dict[str, str]:
    """How to reach the bucket of a warehouse in S3; who asks is said by the environment, as for every client of S3."""
    if urlsplit(platform.warehouse).scheme != "s3":
        return {}
    found = {
        "s3.region": platform.s3_region,
        "s3.force-virtual-addressing": str(not platform.s3_path_style).lower(),
        **_PATIENCE,
    }
    return found | ({"s3.endpoint": platform.s3_endpoint} if platform.s3_endpoint else {})


def _with_credentials(platform: Platform) -> str:
    from sqlalchemy import make_url

    url = make_url(platform.catalog_uri)
    if url.drivername == "postgresql":
        url = url.set(drivername=_POSTGRES)
    if platform.catalog_user:
        url = url.set(username=platform.catalog_user, password=platform.catalog_password.get_secret_value())
    return url.render_as_string(hide_password=False)


def _shown(uri: str) -> str:
    from sqlalchemy import make_url

    with suppress(Exception):
        return make_url(uri).render_as_string()
    return "of the platform"


def _line(error: Exception) -> str:
    cause = getattr(error, "orig", None) or error
    return " ".join(str(cause).split())[:300]
