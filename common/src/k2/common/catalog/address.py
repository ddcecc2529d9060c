"""The URI of the catalog's database: in SQLAlchemy's form, whose parameters are libpq's, and in JDBC's."""

from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

# libpq's names that PostgreSQL's JDBC driver has under another name or the same one; it ignores those it does not know.
_JDBC_NAMES: Final = {
    "sslmode": "sslmode",
    "sslrootcert": "sslrootcert",
    "sslcert": "sslcert",
    "sslkey": "sslkey",
    "gssencmode": "gssEncMode",
    "channel_binding": "channelBinding",
    "connect_timeout": "connectTimeout",
    "application_name": "ApplicationName",
    "options": "options",
}
_SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_VERIFIED: Final = ("verify-ca", "verify-full")


def check(uri: str) -> str:
    """Return the URI. Raises `ValueError` for parameters that not all of K2's clients of PostgreSQL would obey."""
    parts = urlsplit(uri)
    if parts.scheme.partition("+")[0] != "postgresql":
        return uri
    parameters = parse_qsl(parts.query, keep_blank_values=True)
    names = [name for name, _ in parameters]
    for name, value in parameters:
        if name not in _JDBC_NAMES:
            raise ValueError(f"must have none but these parameters: {', '.join(_JDBC_NAMES)}; remove {name[:60]}")
        if names.count(name) > 1:
            raise ValueError(f"must have each parameter once; remove one {name}")
        if name == "sslmode" and value not in _SSL_MODES:
            raise ValueError(f"must have one of these as sslmode: {', '.join(_SSL_MODES)}")
    given = dict(parameters)
    if given.get("sslmode") in _VERIFIED and not given.get("sslrootcert"):
        raise ValueError(
            f"must name the file of the certificate authority with sslrootcert, because sslmode is {given['sslmode']}"
        )
    if bool(given.get("sslcert")) != bool(given.get("sslkey")):
        raise ValueError("must have both sslcert and sslkey, or neither")
    return uri


def jdbc(uri: str) -> str:
    """Return the JDBC URL with the same parameters, without user and password."""
    parts = urlsplit(uri)
    scheme = parts.scheme.partition("+")[0]
    if scheme == "sqlite":
        return f"jdbc:sqlite:{uri.partition(':///')[2]}"
    url = f"jdbc:{scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    given = dict(parse_qsl(parts.query))
    if given.get("sslmode") == "require" and given.get("sslrootcert"):
        given["sslmode"] = "verify-ca"  # as libpq does; the JDBC driver would trust any certificate
    translated = {_JDBC_NAMES[name]: value for name, value in given.items()}
    return f"{url}?{urlencode(translated, safe='/', quote_via=quote)}" if translated else url


def credentials(uri: str) -> tuple[str, str]:
    """Return the user name and password of a URI; empty where it has none."""
    parts = urlsplit(uri)
    return unquote(parts.username or ""), unquote(parts.password or "")
