"""ETag and Cache-Control headers of query results."""

import hashlib
from typing import Any

import msgspec

from k2.query.api.responses import IMMUTABLE, SHORT_LIVED, AcceptedFormat, QueryResult


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
