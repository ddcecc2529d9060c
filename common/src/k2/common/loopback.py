"""Which names lead to this machine: servers that listen on it only accept no other in the Host header."""

from ipaddress import ip_address
from typing import Final

_NAMES: Final = frozenset({"localhost"})


def is_loopback(host: str) -> bool:
    """Whether the value of a Host header, with or without a port, names this machine.

    A web page of another origin can lead its own name here (DNS rebinding), but cannot send another Host.
    """
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    name = name.removeprefix("[").removesuffix("]").lower()
    if name in _NAMES:
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
