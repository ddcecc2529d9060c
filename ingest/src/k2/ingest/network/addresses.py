"""Which addresses the ingest connects to: a feed names hosts, and whoever writes feeds must not reach what is private.

The check is made with the address that a socket is about to connect to, so no name can lead around it.
"""

import errno
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final

_LINK_LOCAL: Final = "is link-local: clouds serve credentials there"
_PRIVATE: Final = "is not public, and the platform does not allow private addresses (allowPrivateEndpoints)"
_METADATA_IPV6: Final[IPv4Address | IPv6Address] = IPv6Address("fd00:ec2::254")


def refusal(address: str, *, private: bool) -> str:
    """Return why a connection to an address is refused; empty if it is not. `private`: such addresses are allowed."""
    parsed = ip_address(address.partition("%")[0])
    if isinstance(parsed, IPv6Address):
        parsed = parsed.ipv4_mapped or parsed
    if parsed.is_link_local or parsed == _METADATA_IPV6:
        return _LINK_LOCAL
    return "" if private or parsed.is_global else _PRIVATE


class SocketFactory:
    """Makes sockets for aiohttp's connector; refuses addresses with an `OSError` that says why."""

    def __init__(self, *, private: bool) -> None:
        self._private = private

    def __call__(self, info: tuple[Any, ...]) -> socket.socket:
        """Return a socket for an entry of `getaddrinfo`."""
        family, kind, protocol, _, address = info
        if reason := refusal(str(address[0]), private=self._private):
            raise PermissionError(errno.EACCES, f"{address[0]} {reason}")
        return socket.socket(family, kind, protocol)
