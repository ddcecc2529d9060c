"""How to reach the schema registry: its URL, its certificate authority, and a user with a password, or a token.

Password and token stay in files, which are read again for every call.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from k2.common.validation_errors import ABSENT, Problem

_TIMEOUT: Final = 10  # seconds
_RETRIES: Final = 2


@dataclass(frozen=True, slots=True)
class RegistryConnection:
    """The address of a registry, and the files that a client identifies itself and the registry with."""

    url: str
    ca_file: str = ""
    username: str = ""
    password_file: str = ""
    token_file: str = ""

    def problems(self, prefix: str = "K2_REGISTRY_") -> Iterator[Problem]:
        """Yield what contradicts itself; `prefix` is that of the environment variables."""
        if self.ca_file and urlsplit(self.url).scheme != "https":
            allowed = f"not used by {prefix}URL={urlsplit(self.url).scheme}://...: make that https://, or remove it"
            yield Problem(f"{prefix}CA_FILE", self.ca_file, allowed)
        if bool(self.username) != bool(self.password_file):
            name, other = ("PASSWORD_FILE", "USERNAME") if self.username else ("USERNAME", "PASSWORD_FILE")
            yield Problem(f"{prefix}{name}", ABSENT, f"required with {prefix}{other}")
        if self.token_file and self.username:
            allowed = f"not used with {prefix}USERNAME: remove one of them"
            yield Problem(f"{prefix}TOKEN_FILE", self.token_file, allowed)
        if (self.token_file or self.username) and urlsplit(self.url).username:
            name = "TOKEN_FILE" if self.token_file else "USERNAME"
            yield Problem(f"{prefix}URL", self.url, f"has a user name too: remove it there, or remove {prefix}{name}")

    def settings(self) -> dict[str, Any]:
        """Return the settings of Confluent's client, with what the files hold now. Raises `OSError` naming the file."""
        return client_settings(
            self,
            password=_read(self.password_file) if self.password_file else "",
            token=_read(self.token_file) if self.token_file else "",
        )

    def version(self) -> tuple[Any, ...]:
        """Return what differs after the files have changed. Raises `OSError` naming the file."""
        files = (self.ca_file, self.password_file, self.token_file)
        return tuple((status.st_mtime_ns, status.st_ino) for status in (Path(file).stat() for file in files if file))


def client_settings(connection: RegistryConnection, *, password: str, token: str) -> dict[str, Any]:
    """Return the settings of Confluent's client."""
    settings: dict[str, Any] = {"url": connection.url, "timeout": _TIMEOUT, "max.retries": _RETRIES}
    if connection.ca_file:
        settings["ssl.ca.location"] = connection.ca_file
    if connection.username:
        settings["basic.auth.user.info"] = f"{connection.username}:{password}"
    if connection.token_file:
        settings |= {
            "bearer.auth.credentials.source": "STATIC_TOKEN",
            "bearer.auth.token": token,
            "bearer.auth.logical.cluster": "",  # of Confluent Cloud; the client asks for it
        }
    return settings


def _read(file: str) -> str:
    """Return a secret without the line break that editors put at the end."""
    return Path(file).read_text("utf-8").removesuffix("\n")
