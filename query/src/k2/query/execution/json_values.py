"""Convert query values to JSON values."""

import base64
import math
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from k2.query.errors import BadQuery
from k2.query.execution import value_text


def to_json_value(value: Any) -> Any:  # noqa: C901, PLR0911 - one line a type
    """Convert a value to JSON without loss: decimals (no trailing zeros) and times as text, bytes as base64.

    Times with a zone are in UTC with a Z; those without a zone have none. NaN and the infinities are null.
    """
    match value:
        case Decimal():
            text = f"{value:f}"
            return text.rstrip("0").rstrip(".") if "." in text else text
        case datetime(tzinfo=None):
            return value.isoformat(timespec="microseconds")
        case datetime():
            return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        case date():
            return value.isoformat()
        case bytes():
            return base64.b64encode(value).decode()
        case float() if not math.isfinite(value):
            return None
        case None | str() | bool() | int() | float():
            return value
        case dict():
            return {str(to_json_value(key)): to_json_value(inner) for key, inner in value.items()}
        case tuple() if hasattr(value, "nanoseconds"):  # Arrow's MonthDayNano
            return value_text.interval(value)
        case list() | tuple():
            return [to_json_value(inner) for inner in value]
    return str(value)


@contextmanager
def representable(kind: object) -> Iterator[None]:
    """Raise `BadQuery` for a value of an Arrow type that Python and JSON cannot hold, such as a date before Christ."""
    import pyarrow as pa

    try:
        yield
    except (OverflowError, ValueError, TypeError, pa.ArrowException) as error:
        raise BadQuery(
            f"a value of type {str(kind)[:100]} has no text form; cast it to VARCHAR, or take Arrow"
        ) from error
