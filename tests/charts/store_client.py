"""What a client of an object store does: write, read, and see whether it is refused."""

from collections.abc import Callable
from typing import Any

from pyarrow.fs import S3FileSystem


def refused(call: Callable[[], Any]) -> bool:
    """Return whether the store denies a call."""
    try:
        call()
    except OSError as error:
        return "ACCESS_DENIED" in str(error) or "AccessDenied" in str(error) or "403" in str(error)
    return False


def write(client: S3FileSystem, path: str, data: bytes = b"data") -> None:
    with client.open_output_stream(path) as stream:
        stream.write(data)


def read(client: S3FileSystem, path: str) -> bytes:
    with client.open_input_stream(path) as stream:
        return bytes(stream.read())
