"""The result of a query in the format that its client accepts, with ETag and Cache-Control headers."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from k2.query.api.encoding import formats
from k2.query.api.encoding.formats import Chunk, MediaType

if TYPE_CHECKING:
    from pyarrow import RecordBatchReader

IMMUTABLE: Final = "private, max-age=31536000, immutable"
SHORT_LIVED: Final = "private, max-age=1"
NO_STORE: Final = "no-store"
_VARY: Final = "Accept, Accept-Encoding, Authorization, X-Api-Key"


@dataclass(frozen=True, slots=True)
class QueryResult:
    """The result of a query: status, headers and body chunks; `whole`: small enough to send with a Content-Length."""

    chunks: Iterator[Chunk] = field(default_factory=lambda: iter(()))
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200
    media_type: str | None = MediaType.JSON
    whole: bool = True


@dataclass(frozen=True, slots=True)
class AcceptedFormat:
    """The format that a client negotiated: media type, compression and cached ETags."""

    media_type: MediaType
    gzip: bool
    if_none_match: str

    def matches(self, etag: str) -> bool:
        """Return whether the client's copy is current."""
        etags = [part.strip().removeprefix("W/") for part in self.if_none_match.split(",")]
        return etag in etags or "*" in etags

    def encode(
        self,
        reader: "RecordBatchReader",
        headers: Mapping[str, str],
        envelope: Callable[[int], dict[str, Any]] = lambda _: {},
        *,
        whole: bool = False,
    ) -> QueryResult:
        """Encode rows in the client's format, compressed if it accepts that."""
        chunks = formats.encode(reader, self.media_type, envelope)
        headers = {"Vary": _VARY, **headers}
        if self.gzip and self.media_type.is_text:
            chunks, headers = formats.gzip_chunks(chunks), {**headers, "Content-Encoding": "gzip"}
        return QueryResult(chunks, headers, media_type=self.media_type, whole=whole)


def make_etag(accepted: AcceptedFormat, *parts: Any) -> str:
    """Return the ETag of a result: the same snapshot, query and format give the same bytes."""
    identity = msgspec.json.encode(
        [str(part) for part in (accepted.media_type, accepted.gzip and accepted.media_type.is_text, *parts)]
    )
    return f'"{hashlib.sha256(identity).hexdigest()[:32]}"'


def cache_headers(etag: str, *, immutable: bool) -> dict[str, str]:
    """Return the caching headers; `immutable` if the result can never change."""
    return {"ETag": etag, "Cache-Control": IMMUTABLE if immutable else SHORT_LIVED}


def not_modified(headers: dict[str, str]) -> QueryResult:
    """Return the 304 result for a client whose copy is current."""
    return QueryResult(headers=headers, status=304, media_type=None)
