"""Validation errors for users: the path of each invalid value, the value, and what is allowed."""

import json
import re
import reprlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

ABSENT: Any = object()  # the value of a problem about a missing field
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]*@")
_PASSWORD_PARAMETER = re.compile(r"(?<=[?&])(\w*password)=[^&\s\"']*", re.IGNORECASE)
_ALLOWED = {
    "extra_forbidden": "unknown field; check its spelling and indentation",
    "missing": "this field is required",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
    "dict_type": "must be a mapping",
    "tuple_type": "must be a list",
    "int_type": "must be a whole number",
    "bool_type": "must be true or false",
    "string_type": "must be text",
}
_PREFIXES = ("Value error, ", "Input should be ", "String should ", "Assertion failed, ")


@dataclass(frozen=True, slots=True)
class Problem:
    """One invalid value: its path as `kubectl explain` writes it, the value, and what is allowed instead."""

    path: str
    value: Any
    allowed: str

    def __str__(self) -> str:
        where = f"{self.path}: " if self.path else ""
        if self.value is ABSENT:
            return f"{where}{self.allowed}"
        return f"{where}{format_value(self.value)} is not allowed: {self.allowed}"


class InvalidSpec(ValueError):
    """An invalid ExchangeFeed or setting. `problems` lists every invalid value."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(str(problem) for problem in self.problems))


def format_value(value: Any) -> str:
    """Format a value for a message: short, on one line, without control characters or credentials."""
    if isinstance(value, str):
        return json.dumps(redact(value if len(value) <= 80 else value[:77] + "..."))
    short = reprlib.Repr()
    short.maxlevel, short.maxdict, short.maxlist, short.maxstring, short.maxother = 2, 3, 3, 80, 80
    return redact(short.repr(value).replace("\n", " "))


def from_pydantic(error: ValidationError) -> list[Problem]:
    """Convert a pydantic error into problems, each with a path as `kubectl explain` writes it."""
    return [
        Problem(_path(details["loc"]), ABSENT if details["type"] == "missing" else details["input"], _allowed(details))
        for details in error.errors(include_url=False)
        # Pydantic does not count invalid items, which are reported themselves: do not call the list too short as well.
        if details["type"] != "too_short" or len(details["input"]) < details["ctx"]["min_length"]
    ]


def redact(text: str) -> str:
    """Return the text with user names and passwords removed from its URLs."""
    return _PASSWORD_PARAMETER.sub(r"\1=***", _CREDENTIALS.sub("***@", text))


def _path(location: tuple[int | str, ...]) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path


def _items(number: int) -> str:
    return f"{number} item{'s' * (number != 1)}"


def _allowed(details: Any) -> str:
    match details["type"]:
        case "string_pattern_mismatch":
            return f"must match {details['ctx']['pattern']}"
        case "too_short":
            return f"must hold at least {_items(details['ctx']['min_length'])}"
        case "too_long":
            return f"must hold at most {_items(details['ctx']['max_length'])}"
    if phrase := _ALLOWED.get(details["type"]):
        return phrase
    message: str = details["msg"]
    for prefix in _PREFIXES:
        if message.startswith(prefix):
            rest = message.removeprefix(prefix)
            return rest if prefix == "Value error, " else f"must be {rest}" if "should be" in prefix else f"must {rest}"
    return message[:1].lower() + message[1:]
