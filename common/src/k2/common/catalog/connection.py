"""How to reach the Iceberg catalog: the database of a JDBC catalog, or a server that speaks Iceberg's REST protocol.

Iceberg's Java client, as Spark uses it, and PyIceberg call the properties of a REST catalog by the same names.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from k2.common.validation_errors import ABSENT, Problem


class CatalogType(StrEnum):
    """The kinds of catalogs."""

    JDBC = "jdbc"
    REST = "rest"


@dataclass(frozen=True, slots=True)
class CatalogConnection:
    """The address of a catalog, and what a client identifies itself with.

    `tables` is where their files are. A REST catalog may know that place by another name, its `warehouse`. `user` and
    `password` are those of the database, or the client's id and secret for OAuth2.
    """

    type: CatalogType
    uri: str
    tables: str
    warehouse: str = ""
    user: str = ""
    password: str = field(default="", repr=False)
    token_file: str = ""
    oauth2_uri: str = ""
    scope: str = ""
    ca_file: str = ""

    def problems(self, prefix: str = "K2_CATALOG_") -> Iterator[Problem]:
        """Yield what contradicts itself; `prefix` is that of the environment variables."""
        if self.type is CatalogType.REST:
            yield from self._rest_problems(prefix)
            return
        if urlsplit(self.uri).scheme in {"http", "https"}:
            yield Problem(f"{prefix}URI", self.uri, f"that of a REST catalog: set {prefix}TYPE=rest")
        for name in ("warehouse", "token_file", "oauth2_uri", "scope", "ca_file"):
            if getattr(self, name):
                allowed = f"not used by a JDBC catalog: set {prefix}TYPE=rest, or remove it"
                yield Problem(f"{prefix}{name.upper()}", getattr(self, name), allowed)

    def _rest_problems(self, prefix: str) -> Iterator[Problem]:
        given = f"{prefix}TYPE=rest"
        url = urlsplit(self.uri)
        if url.scheme not in {"http", "https"} or not url.hostname:
            allowed = f"with {given} it must be the URL of a REST catalog, which begins with http:// or https://"
            yield Problem(f"{prefix}URI", self.uri, allowed)
        elif url.username or url.password:
            allowed = f"must not hold a user name or password: use {prefix}USER and {prefix}PASSWORD"
            yield Problem(f"{prefix}URI", self.uri, allowed)
        if urlsplit(self.tables).scheme not in {"s3", "file"}:
            allowed = f"with {given} it must be where the catalog puts its tables: s3://BUCKET/PREFIX or file:/DIR"
            yield Problem("K2_WAREHOUSE", self.tables, allowed)
        if bool(self.user) != bool(self.password):
            name, other = ("PASSWORD", "USER") if self.user else ("USER", "PASSWORD")
            yield Problem(f"{prefix}{name}", ABSENT, f"required with {prefix}{other}: the client's id and secret")
        if self.token_file and self.user:
            yield Problem(f"{prefix}TOKEN_FILE", self.token_file, f"not used with {prefix}USER: remove one of them")
        if self.ca_file and url.scheme != "https":
            yield Problem(
                f"{prefix}CA_FILE", self.ca_file, f"used only with https://: make {prefix}URI that, or remove it"
            )
        for name in ("oauth2_uri", "scope"):
            if getattr(self, name) and not self.user:
                allowed = f"used only with {prefix}USER and {prefix}PASSWORD: set these, or remove it"
                yield Problem(f"{prefix}{name.upper()}", getattr(self, name), allowed)

    def rest_properties(self) -> dict[str, str]:
        """Return the properties of a REST client, with the token that the file holds now.

        Raises `OSError` naming the file.
        """
        properties = {"uri": self.uri, "warehouse": self.warehouse or self.tables}
        if self.user:
            properties["credential"] = f"{self.user}:{self.password}"
            # Without it clients ask the catalog itself, which both deprecate and warn of.
            properties["oauth2-server-uri"] = self.oauth2_uri or f"{self.uri.rstrip('/')}/v1/oauth/tokens"
        if self.scope:
            properties["scope"] = self.scope
        if self.token_file:
            properties["token"] = Path(self.token_file).read_text("utf-8").strip()
        return properties
