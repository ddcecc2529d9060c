"""How a wrong value is told: its path, the value found, and what is allowed."""

import json
import re
import reprlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

ABSENT: Any = object()  # the value of a problem that is about something not there
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]*@")
_ALLOWED = {
    "extra_forbidden": "there is no such field; check its spelling and indentation",
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
    """One wrong value."""

    path: str
    value: Any
    allowed: str

    def __str__(self) -> str:
        where = f"{self.path}: " if self.path else ""
        if self.value is ABSENT:
            return f"{where}{self.allowed}"
        return f"{where}{shown(self.value)} is not allowed: {self.allowed}"


class InvalidSpec(ValueError):
    """An ExchangeFeed that cannot be run as it is written. `problems` holds all that was found."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(str(problem) for problem in self.problems))


def shown(value: Any) -> str:
    """A value as it may stand in a message: short, one line, no control characters, no credentials."""
    if isinstance(value, str):
        return json.dumps(redacted(value if len(value) <= 80 else value[:77] + "..."))
    short = reprlib.Repr()
    short.maxlevel, short.maxdict, short.maxlist, short.maxstring, short.maxother = 2, 3, 3, 80, 80
    return redacted(short.repr(value).replace("\n", " "))


def from_pydantic(error: ValidationError) -> list[Problem]:
    """A validation error's findings, each with a path as `kubectl explain` writes it."""
    return [
        Problem(_path(found["loc"]), ABSENT if found["type"] == "missing" else found["input"], _allowed(found))
        for found in error.errors(include_url=False)
        # Items that are wrong do not count, and are told themselves: the list need not be called too short as well.
        if found["type"] != "too_short" or len(found["input"]) < found["ctx"]["min_length"]
    ]


def redacted(text: str) -> str:
    """The text without the user names and passwords of the URLs in it."""
    return _CREDENTIALS.sub("***@", text)


def _path(location: tuple[int | str, ...]) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path


def _items(number: int) -> str:
    return f"{number} item{'s' * (number != 1)}"


def _allowed(found: Any) -> str:
    match found["type"]:
        case "string_pattern_mismatch":
            return f"must match {found['ctx']['pattern']}"
        case "too_short":
            return f"must hold at least {_items(found['ctx']['min_length'])}"
        case "too_long":
            return f"must hold at most {_items(found['ctx']['max_length'])}"
    if known := _ALLOWED.get(found["type"]):
        return known
    message: str = found["msg"]
    for prefix in _PREFIXES:
        if message.startswith(prefix):
            rest = message.removeprefix(prefix)
            return rest if prefix == "Value error, " else f"must be {rest}" if "should be" in prefix else f"must {rest}"
    return message[:1].lower() + message[1:]
