"""Choice of TCP ports on this machine: free ones at first, the same ones on later starts."""

import socket
from collections.abc import Mapping

HOST = "127.0.0.1"


class PortInUse(ValueError):
    """A requested port is in use."""


def free() -> int:
    """Return a free port."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        port: int = listener.getsockname()[1]
        return port


def available(port: int) -> bool:
    """Return whether a port can be bound."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except OSError:
            return False
    return True


def choose(parts: list[str], *, requested: Mapping[str, int], previous: Mapping[str, int]) -> dict[str, int]:
    """Return a port for each part: the requested one, else the previous one, else a free one.

    Raises `PortInUse` if a requested port is in use; a previous port in use is replaced.
    """
    ports: dict[str, int] = {}
    reserved = set(requested.values())
    for part in parts:
        if port := requested.get(part):
            if port in ports.values():
                raise PortInUse(f"--{part}-port {port} is requested twice; choose another")
            if not available(port):
                raise PortInUse(f"--{part}-port {port} is in use by another process; choose another")
        else:
            port, taken = previous.get(part, 0), reserved.union(ports.values())
            while not port or port in taken or not available(port):
                port = free()
        ports[part] = port
    return ports
