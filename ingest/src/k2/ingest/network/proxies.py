"""Which proxy leads to a URL, as the environment says. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final
from urllib.parse import urlsplit

from k2.common.validation_errors import InvalidSpec, Problem

_PORTS: Final = {"http": 80, "https": 443, "wss": 443}
_SETTINGS: Final = {"http": "http", "https": "https", "wss": "https"}  # a proxy cannot upgrade ws:// without a tunnel
_SCHEMES: Final = frozenset({"http", "https"})


@dataclass(frozen=True, slots=True)
class Proxies:
    """The proxies by setting (`http`, `https`, `all`), and the hosts that are reached without one.

    An entry of `bypass` is a host name, which stands for its subdomains too, an address or a network, each perhaps with
    a port, or `*`. This machine is always reached without a proxy.
    """

    urls: Mapping[str, str]
    bypass: tuple[str, ...] = ()

    @classmethod
    def of(cls, settings: Mapping[str, str]) -> "Proxies":
        """Build from what `urllib.request.getproxies_environment` returns. Raises `InvalidSpec`."""
        urls = {name: _with_scheme(url) for name in ("http", "https", "all") if (url := settings.get(name, "").strip())}
        problems = [
            Problem(f"{name.upper()}_PROXY", url, "must be a URL that begins with http:// or https://, with a host")
            for name, url in urls.items()
            if not _usable(url)
        ]
        if problems:
            raise InvalidSpec(problems)
        return cls(urls, tuple(settings.get("no", "").replace(",", " ").lower().split()))

    def proxy(self, url: str) -> str | None:
        """Return the URL of the proxy that leads to a URL; None if it is reached without one."""
        parts = urlsplit(url)
        setting = _SETTINGS.get(parts.scheme)
        if setting is None:
            return None
        proxy = self.urls.get(setting) or self.urls.get("all")
        host, port = (parts.hostname or "").rstrip("."), parts.port or _PORTS[parts.scheme]
        return None if proxy is None or self._bypasses(host, port) else proxy

    def _bypasses(self, host: str, port: int) -> bool:
        address = _address(host)
        if host == "localhost" or (address is not None and address.is_loopback):
            return True
        return any(_matches(entry, host, port) for entry in self.bypass)


def _with_scheme(url: str) -> str:
    return url if "://" in url else f"http://{url}"


def _usable(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in _SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _matches(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    name, entry_port = _split_port(entry)
    if entry_port and entry_port != str(port):
        return False
    address = _address(host)
    if address is not None:
        try:
            return address in ip_network(name, strict=False)
        except ValueError:
            return False
    domain = name.removeprefix("*").strip(".")
    return bool(domain) and (host == domain or host.endswith(f".{domain}"))


def _split_port(entry: str) -> tuple[str, str]:
    """Split `host:port`; an address with several colons has a port only behind brackets."""
    if entry.startswith("["):
        name, _, rest = entry[1:].partition("]")
        return name + (rest if rest.startswith("/") else ""), rest.removeprefix(":") if rest.startswith(":") else ""
    name, _, port = entry.partition(":")
    return (entry, "") if ":" in port else (name, port)


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None
