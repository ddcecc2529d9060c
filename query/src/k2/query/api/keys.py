"""API keys: a file that holds who may do what, with hashes in the place of keys.

A key is 32 random bytes, so one round of SHA-256 keeps it as well as many would, and costs a request nothing.
"""

import hashlib
import os
import secrets
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from k2.common.validation_errors import InvalidSpec, Problem, from_pydantic
from k2.common.yaml_loader import load_document
from k2.query.api.settings import Rate
from k2.query.errors import Unavailable

_PREFIX: Final = "k2_"


class Scope(StrEnum):
    """What a key allows."""

    READ = "read"
    SQL = "sql"
    STREAM = "stream"
    REPLAY = "replay"


class Key(BaseModel):
    """One key: whose it is, its hash, what it allows, and how often."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
    hash: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1)]
    rate: Rate | None = None


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    keys: tuple[Key, ...] = ()


class Keys:
    """The keys of a file, read again when it changes. Raises `InvalidSpec` if it cannot be read to begin with."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = None
        self._by_hash: Mapping[str, Key] = {}
        self._refresh()

    def find(self, key: str) -> Key | None:
        """Whose key it is; None if nobody's. Raises `Unavailable` while the file is not what it should be."""
        try:
            self._refresh()
        except InvalidSpec as error:
            raise Unavailable(f"the file of API keys cannot be used: {error}") from error
        return self._by_hash.get(hashed(key))

    def _refresh(self) -> None:
        try:
            about = self._path.stat()
        except OSError as error:
            raise InvalidSpec([Problem(str(self._path), "", error.strerror or str(error))]) from error
        seen = (about.st_mtime_ns, about.st_size)
        if seen != self._seen:
            self._by_hash = {key.hash: key for key in load(self._path)}
            self._seen = seen


def load(path: Path) -> tuple[Key, ...]:
    """The keys in a file; JSON is YAML. Raises `InvalidSpec`."""
    try:
        found = load_document(path.read_bytes())
        keys = _File.model_validate(found).keys
    except OSError as error:
        raise InvalidSpec([Problem(str(path), "", error.strerror or str(error))]) from error
    except ValidationError as error:
        problems = from_pydantic(error)
    else:
        names = [key.name for key in keys]
        problems = [
            Problem(f"{path}: keys", name, "the name stands twice") for name in set(names) if names.count(name) > 1
        ]
        if not problems:
            return keys
    raise InvalidSpec(Problem(f"{path}: {problem.path}", problem.value, problem.allowed) for problem in problems)


def add(path: Path, name: str, scopes: Sequence[Scope], rate: str | None = None) -> str:
    """A new key, its hash added to a file that is made if it is missing. It is told this once. Raises `InvalidSpec`."""
    token = _PREFIX + secrets.token_urlsafe(32)
    before = load(path) if path.exists() else ()
    if name in {key.name for key in before}:
        raise InvalidSpec([Problem(f"{path}: keys", name, "there is a key of this name; choose another")])
    try:
        made = Key(name=name, hash=hashed(token), scopes=tuple(dict.fromkeys(scopes)), rate=rate)
    except ValidationError as error:
        raise InvalidSpec(from_pydantic(error)) from None
    rows: list[dict[str, Any]] = [key.model_dump(mode="json", exclude_none=True) for key in (*before, made)]
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            yaml.safe_dump({"keys": rows}, file, sort_keys=False)
        unfinished.replace(path)
    except OSError as error:
        raise InvalidSpec([Problem(str(path), "", error.strerror or str(error))]) from error
    return token


def hashed(key: str) -> str:
    """A key as the file holds it."""
    return f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"
