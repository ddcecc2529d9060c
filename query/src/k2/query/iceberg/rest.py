"""PyIceberg's client of a REST catalog, for a process that only reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pyiceberg.catalog.rest import RestCatalog
from requests.adapters import HTTPAdapter

if TYPE_CHECKING:
    from pyiceberg.io import FileIO
    from requests import PreparedRequest, Response, Session

_TIMEOUT: Final = (5.0, 20.0)  # seconds to connect, and between bytes; PyIceberg has none
_DELEGATION: Final = "X-Iceberg-Access-Delegation"


class ReadingCatalog(RestCatalog):
    """A REST catalog whose files are read with this process's own keys, which may only read.

    Keys that a catalog hands out are not asked for and not used: they might write.
    """

    def _create_session(self) -> Session:
        session = super()._create_session()
        session.headers.pop(_DELEGATION, None)
        for scheme in ("http://", "https://"):
            session.mount(scheme, _Adapter())
        return session

    def _load_file_io(self, properties: Any = None, location: str | None = None) -> FileIO:
        return super()._load_file_io({}, location)


class _Adapter(HTTPAdapter):
    """Sends requests that end."""

    def send(self, request: PreparedRequest, *arguments: Any, **options: Any) -> Response:
        if options.get("timeout") is None:
            options["timeout"] = _TIMEOUT
        return super().send(request, *arguments, **options)
