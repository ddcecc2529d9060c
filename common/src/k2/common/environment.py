"""Detection of unknown environment variables, with the nearest known name for each."""

import os
import re
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Final

from k2.common.validation_errors import ABSENT, Problem

# What Kubernetes adds to a container for each Service of its namespace, such as K2_API_PORT_8000_TCP_ADDR for k2-api.
_SERVICE_LINK: Final = re.compile(r"\w*_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)")
_SIMILAR: Final = 0.6
_MISSPELT: Final = 0.8


def unknown_variables(prefix: str, names: Collection[str], environ: Mapping[str, str] = os.environ) -> list[Problem]:
    """Return a problem for each variable with the prefix that is neither known nor a Kubernetes service link.

    `names` are the known variables without their prefix, such as `PORT` of `K2_API_PORT`. Each problem suggests the
    nearest of them, if one is similar.
    """
    return [
        Problem(name, ABSENT, f"unknown environment variable{_suggestion(prefix, suffix, names)}")
        for name, suffix in _unknown(prefix, names, environ)
    ]


def misspelt_variables(prefix: str, names: Collection[str], environ: Mapping[str, str] = os.environ) -> list[Problem]:
    """Return the unknown variables that differ only slightly from a known name; see `unknown_variables`.

    For a prefix that other programs use as well: a variable that resembles no known name may be theirs.
    """
    return [
        Problem(name, ABSENT, f"unknown environment variable{_suggestion(prefix, suffix, names)}")
        for name, suffix in _unknown(prefix, names, environ)
        if get_close_matches(suffix, names, 1, _MISSPELT)
    ]


def _unknown(prefix: str, names: Collection[str], environ: Mapping[str, str]) -> list[tuple[str, str]]:
    variables = [
        (name, name.upper().removeprefix(prefix)) for name in sorted(environ) if name.upper().startswith(prefix)
    ]
    return [(name, suffix) for name, suffix in variables if suffix not in names and not _SERVICE_LINK.fullmatch(name)]


def _suggestion(prefix: str, suffix: str, names: Collection[str]) -> str:
    nearest = get_close_matches(suffix, names, 1, _SIMILAR)
    return f"; did you mean {prefix}{nearest[0]}?" if nearest else "; see docs/reference/environment.md"
