"""Kubernetes quantities such as "500m" and "1Gi": parse them exactly, and convert them to Spark's units."""

import math
import re
from decimal import Decimal
from typing import Any, Final

from kubernetes.utils.quantity import parse_quantity

# The notation that the API server accepts. The client also parses what the API server rejects: "1K", "1 Gi", "NaN".
_NOTATION: Final = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3}|[numkMGTPE]|[KMGTPE]i)?")


def parse(value: Any) -> Decimal | None:
    """Return the exact value of a quantity; None if it is not a quantity."""
    if not isinstance(value, str | int | float) or _NOTATION.fullmatch(text := str(value)) is None:
        return None
    number: Decimal = parse_quantity(text)  # of the text, because a float such as 0.1 is not exact
    return number


def mebibytes(quantity: str) -> int:
    """Return the MiB of a memory quantity, rounded down. Raises ValueError if it is invalid or below 1 MiB."""
    number = parse(quantity)
    if number is None or number < 2**20:
        raise ValueError(f"{quantity!r} is not a memory quantity of at least 1Mi; write for example 768Mi or 2Gi")
    return int(number // 2**20)


def cores(quantity: str) -> int:
    """Return the CPUs of a quantity, rounded up, at least 1. Raises ValueError if it is not a quantity."""
    number = parse(quantity)
    if number is None:
        raise ValueError(f"{quantity!r} is not a CPU quantity; write for example 500m or 2")
    return max(1, math.ceil(number))
