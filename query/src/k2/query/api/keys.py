"""API keys and the file that stores their hashes, scopes and rates.

A key is 32 random bytes, so one round of SHA-256 protects it as well as a slow hash would, at no cost per request.
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
    """A permission of a key."""

    READ = "read"
    SQL = "sql"
    STREAM = "stream"
    REPLAY = "replay"


class Key(BaseModel):
    """One key: its name, hash, scopes and rate."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
    hash: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1)]
    rate: Rate | None = None


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    keys: tuple[Key, ...] = ()


class Keys:
    """The keys of a file, reloaded when it changes. Raises `InvalidSpec` if the file is not readable at first."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._version: tuple[int, int] | None = None
        self._by_hash: Mapping[str, Key] = {}
        self._refresh()

    def find(self, key: str) -> Key | None:
        """Return the entry of a key, or None if it is unknown. Raises `Unavailable` while the file is invalid."""
        try:
            self._refresh()
        except InvalidSpec as error:
            raise Unavailable(f"invalid API key file: {error}") from error
        return self._by_hash.get(hash_key(key))

    def _refresh(self) -> None:
        try:
            status = self._path.stat()
        except OSError as error:
            raise InvalidSpec([Problem(str(self._path), "", error.strerror or str(error))]) from error
        version = (status.st_mtime_ns, status.st_size)
        if version != self._version:
            self._by_hash = {key.hash: key for key in load(self._path)}
            self._version = version


def load(path: Path) -> tuple[Key, ...]:
    """Load the keys of a YAML or JSON file. Raises `InvalidSpec`."""
    try:
        keys = _File.model_validate(load_document(path.read_bytes())).keys
    except OSError as error:
        raise InvalidSpec([Problem(str(path), "", error.strerror or str(error))]) from error
    except ValidationError as error:
        problems = from_pydantic(error)
    else:
        names = [key.name for key in keys]
        problems = [
            Problem(f"{path}: keys", name, "duplicate key name") for name in set(names) if names.count(name) > 1
        ]
        if not problems:
            return keys
    raise InvalidSpec(Problem(f"{path}: {problem.path}", problem.value, problem.allowed) for problem in problems)


def add(path: Path, name: str, scopes: Sequence[Scope], rate: str | None = None) -> str:
    """Create a key, add its hash to the file, and return the key, which is stored nowhere. Raises `InvalidSpec`.

    The file is created, readable by its owner only, if it does not exist.
    """
    token = _PREFIX + secrets.token_urlsafe(32)
    existing = load(path) if path.exists() else ()
    if name in {key.name for key in existing}:
        raise InvalidSpec([Problem(f"{path}: keys", name, "a key of this name exists; choose another name")])
    try:
        created = Key(name=name, hash=hash_key(token), scopes=tuple(dict.fromkeys(scopes)), rate=rate)
    except ValidationError as error:
        raise InvalidSpec(from_pydantic(error)) from None
    rows: list[dict[str, Any]] = [key.model_dump(mode="json", exclude_none=True) for key in (*existing, created)]
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            yaml.safe_dump({"keys": rows}, file, sort_keys=False)
        temporary.replace(path)
    except OSError as error:
        raise InvalidSpec([Problem(str(path), "", error.strerror or str(error))]) from error
    return token


def hash_key(key: str) -> str:
    """Return the hash under which the file stores a key."""
    return f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"
