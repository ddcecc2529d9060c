"""Kubernetes quantities such as "500m" and "1Gi": parse them exactly, and convert them to Spark's units."""

import math
import re
from decimal import Decimal
from typing import Any, Final

_QUANTITY: Final = re.compile(
    r"([+-]?[0-9]+(?:\.[0-9]*)?|[+-]?\.[0-9]+)(?:([eE][+-]?[0-9]{1,3})|([numkMGTPE]|[KMGTPE]i))?"
)
_DECIMAL: Final = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY: Final = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}


def parse(value: Any) -> Decimal | None:
    """Return the exact value of a quantity; None if it is not a quantity."""
    if not isinstance(value, str | int | float):
        return None
    match = _QUANTITY.fullmatch(str(value))
    if match is None:
        return None
    number, exponent, suffix = match.groups()
    if suffix in _BINARY:
        return Decimal(number) * Decimal(2) ** _BINARY[suffix]
    power = int(exponent[1:]) if exponent else _DECIMAL.get(suffix, 0)
    return Decimal(number).scaleb(power)


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
