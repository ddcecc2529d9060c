"""Ports on this machine: chosen free once, kept afterwards."""

import socket
from collections.abc import Mapping

HOST = "127.0.0.1"


class PortInUse(ValueError):
    """A port that was asked for belongs to somebody else."""


def free() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        port: int = listener.getsockname()[1]
        return port


def available(port: int) -> bool:
    """Whether a port can be listened on."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except OSError:
            return False
    return True


def choose(parts: list[str], *, wanted: Mapping[str, int], before: Mapping[str, int]) -> dict[str, int]:
    """A port for each part: the one that is wanted, else the one it had before, else a free one.

    Raises `PortInUse` for a wanted one that is taken; one from before that is taken is replaced.
    """
    found: dict[str, int] = {}
    kept = set(wanted.values())
    for part in parts:
        if port := wanted.get(part):
            if port in found.values():
                raise PortInUse(f"--{part}-port {port} is wanted twice; choose another")
            if not available(port):
                raise PortInUse(f"--{part}-port {port} is in use by another process; choose another")
        else:
            port, taken = before.get(part, 0), kept.union(found.values())
            while not port or port in taken or not available(port):
                port = free()
        found[part] = port
    return found
