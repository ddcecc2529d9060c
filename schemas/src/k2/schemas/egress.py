"""How many ingest processes reach an exchange from one address: the file that the operator and `k2 up` write for each.

Each process takes its share of what the exchange allows an address. The file may change while a process runs.
"""

from typing import Final

import msgspec

FILE: Final = "egress.json"


class UnreadableEgress(ValueError):
    """The file is not one that K2 wrote."""


class Egress(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`processes` is 1 or more, the reader included."""

    processes: int


def encode(processes: int) -> str:
    """Return the content of the file."""
    return msgspec.json.encode(Egress(processes=processes)).decode()


def decode(content: bytes) -> Egress:
    """Read the content of the file. Raises `UnreadableEgress`."""
    try:
        egress = msgspec.json.decode(content, type=Egress)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnreadableEgress(str(error)) from error
    if egress.processes < 1:
        raise UnreadableEgress(f"processes is {egress.processes}, must be 1 or more")
    return egress
