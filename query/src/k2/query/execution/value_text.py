"""The text of values that neither Python nor Arrow's kernels format without loss: times of any year, intervals.

Times with a zone are RFC 3339 in UTC with a Z; times without a zone have none, and are never shifted. DuckDB's infinite
times are `infinity` and `-infinity`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyarrow import Array, DataType

_DAY_SECONDS: Final = 86_400
_FIRST_DAY, _LAST_DAY = -719_162, 2_932_896  # 0001-01-01 and 9999-12-31: what Arrow formats as RFC 3339
_INFINITE: Final = {"timestamp": 2**63 - 1, "date": 2**31 - 1}
_DIGITS: Final = {"s": 0, "ms": 3, "us": 6, "ns": 9}
_NANOSECONDS: Final = 1_000_000_000


def interval(value: Any) -> str:
    """Return a `pyarrow.MonthDayNano` as DuckDB writes intervals, such as `1 year 2 months 3 days 04:05:06.5`."""
    years, months = divmod(abs(value.months), 12)
    sign = -1 if value.months < 0 else 1
    parts = [_count(sign * years, "year"), _count(sign * months, "month"), _count(value.days, "day")]
    if value.nanoseconds or not any(parts):
        seconds, rest = divmod(abs(value.nanoseconds), _NANOSECONDS)
        clock = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
        fraction = f".{rest:09d}".rstrip("0") if rest else ""
        parts.append(f"{'-' if value.nanoseconds < 0 else ''}{clock}{fraction}")
    return " ".join(filter(None, parts))


def timestamps(column: Array) -> Array:
    """Return a column of timestamps as texts."""
    import pyarrow as pa

    unit, zone = column.type.unit, "Z" if column.type.tz else ""
    digits = _DIGITS[unit]

    def text(number: int) -> str:
        seconds, fraction = divmod(number, 10**digits)
        days, second = divmod(seconds, _DAY_SECONDS)
        clock = f"{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}"
        return f"{_date(days)[0]}T{clock}{f'.{fraction:0{digits}d}' if digits else ''}{zone}{_date(days)[1]}"

    per_day = _DAY_SECONDS * 10**digits
    instants = column.cast(pa.timestamp(unit, "UTC")) if zone else column
    format_ = f"%Y-%m-%dT%H:%M:%S{zone}"
    return _texts(instants, pa.int64(), format_, (_FIRST_DAY * per_day, (_LAST_DAY + 1) * per_day), text)


def dates(column: Array) -> Array:
    """Return a column of dates as texts."""
    import pyarrow as pa

    return _texts(column, pa.int32(), "%Y-%m-%d", (_FIRST_DAY, _LAST_DAY + 1), lambda days: "".join(_date(days)))


def _texts(column: Array, kind: DataType, format_: str, regular: tuple[int, int], text: Callable[[int], str]) -> Array:
    """Format with Arrow's kernel what it can, and number by number the rest."""
    import pyarrow as pa
    import pyarrow.compute as pc

    numbers = column.cast(kind)
    ends = pc.min_max(numbers).as_py()
    if ends["min"] is None or (regular[0] <= ends["min"] and ends["max"] < regular[1]):
        return pc.strftime(column, format=format_).cast(pa.string())
    others = pa.array([value is not None and not regular[0] <= value < regular[1] for value in numbers.to_pylist()])
    infinite = _INFINITE["timestamp" if kind == pa.int64() else "date"]

    def special(number: int) -> str:
        if abs(number) == infinite:
            return "infinity" if number > 0 else "-infinity"
        return text(number)

    regular_texts = pc.strftime(pc.if_else(others, None, column), format=format_).cast(pa.string())
    specials = [special(number) for number in numbers.filter(others).to_pylist()]
    return pc.replace_with_mask(regular_texts, others, pa.array(specials, pa.string()))


def _date(days: int) -> tuple[str, str]:
    """Return the proleptic Gregorian date of a number of days since 1970, and what follows it: (BC) before year 1."""
    # Days of eras of 400 years that begin in March, so that the leap day is the last.
    era, day = divmod(days + 719_468, 146_097)
    year_of_era = (day - day // 1460 + day // 36_524 - day // 146_096) // 365
    day -= 365 * year_of_era + year_of_era // 4 - year_of_era // 100
    month = (5 * day + 2) // 153
    year = year_of_era + 400 * era + (1 if month >= 10 else 0)
    number = f"{year:04d}" if year > 0 else f"{1 - year:04d}"
    date = f"{number}-{month + 3 - (12 if month >= 10 else 0):02d}-{day - (153 * month + 2) // 5 + 1:02d}"
    return date, "" if year > 0 else " (BC)"


def _count(number: int, unit: str) -> str:
    return f"{number} {unit}{'' if abs(number) == 1 else 's'}" if number else ""
