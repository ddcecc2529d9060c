"""How long an answer may be kept, and by what it is known again."""

import hashlib
from typing import Any

import msgspec

from k2.query.api.responses import FOREVER, SHORT, Reply, Wish


def tag(wish: Wish, *parts: Any) -> str:
    """The ETag of an answer: the same snapshot, the same question and the same form give the same bytes."""
    told = msgspec.json.encode([str(part) for part in (wish.media, wish.pack and wish.media.text, *parts)])
    return f'"{hashlib.sha256(told).hexdigest()[:32]}"'


def kept(etag: str, *, for_ever: bool) -> dict[str, str]:
    """The headers that say so."""
    return {"ETag": etag, "Cache-Control": FOREVER if for_ever else SHORT}


def unchanged(headers: dict[str, str]) -> Reply:
    """The answer to a client that has it already."""
    return Reply(headers=headers, status=304, media=None)
