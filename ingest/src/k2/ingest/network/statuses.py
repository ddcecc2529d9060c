"""What an HTTP status means that no exchange explains itself. Pure."""

from typing import Final

_UNAVAILABLE_HERE: Final = 451


def explain(status: int) -> str:
    """Return words for people to append to an error with a status; empty where there is nothing to explain."""
    if status == _UNAVAILABLE_HERE:
        return "; the exchange does not serve this place: use another endpoint, see docs/how-to/endpoints.md"
    return ""
