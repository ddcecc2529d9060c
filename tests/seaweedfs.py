"""SeaweedFS on this machine: a store that speaks S3, with a REST catalog in the same process."""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

WEED = shutil.which("weed", path=f"{os.environ['PATH']}:{os.environ.get('KUBEBUILDER_ASSETS', '')}") or ""
MISSING = "weed (SeaweedFS) is neither in PATH nor in KUBEBUILDER_ASSETS"
_PORTS = ("master", "volume", "filer", "s3")
_START_TIMEOUT = 120.0  # seconds


@dataclass(frozen=True, slots=True)
class SeaweedFS:
    """A running server."""

    s3: str  # URLs
    catalog: str
    process: subprocess.Popen[bytes]
    internal: Mapping[str, int]  # ports of its other parts

    def memory(self) -> int:
        """Return the resident bytes of the process."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def running(folder: Path, identities: Path, words: Sequence[str]) -> Iterator[SeaweedFS]:
    """Run `weed` with the words of a command line on free ports, and stop it at the end."""
    ports = _free_ports()
    flags = [f"-{name}={port}" for name, port in ports.items()]
    command = [
        WEED,
        *words,
        f"-dir={folder}",
        f"-s3.config={identities}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        *flags,
    ]
    folder.mkdir(exist_ok=True)
    with (folder.parent / "weed.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    try:
        server = SeaweedFS(
            f"http://127.0.0.1:{ports['s3.port']}", f"http://127.0.0.1:{ports['s3.port.iceberg']}", process, ports
        )
        for url in (f"{server.s3}/healthz", f"{server.catalog}/v1/config"):
            _wait(process, url, folder.parent / "weed.log")
        yield server
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def identities(users: Mapping[str, tuple[str, str, Sequence[str]]]) -> str:
    """Return the identities file: access key, secret key and actions of each user."""
    entries = [
        {"name": name, "credentials": [{"accessKey": access, "secretKey": secret}], "actions": list(actions)}
        for name, (access, secret, actions) in users.items()
    ]
    return json.dumps({"identities": entries})


def _free_ports() -> dict[str, int]:
    """Return a free port of each part, and of its gRPC server."""
    names = [f"{part}.port{suffix}" for part in _PORTS for suffix in ("", ".grpc")] + ["s3.port.iceberg"]
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in names]
        return {name: each.getsockname()[1] for name, each in zip(names, sockets, strict=True)}


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except urllib.error.HTTPError as error:
            if error.code < 500:  # it answers, if only to who says who it is
                return
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError(f"{url} does not answer; the log ends with {log.read_text()[-2000:]}")
