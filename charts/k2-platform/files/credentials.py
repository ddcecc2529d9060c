"""Copy the keys of some Secrets from the namespace SOURCE into the Secrets of the same names in other namespaces.

COPIES has them as JSON: by namespace, by name, the keys. The copies exist: this process may fill them, not create any.
Values are never logged.
"""  # noqa: INP001

import json
import os
import signal
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ACCOUNT = Path(os.environ.get("ACCOUNT", "/var/run/secrets/kubernetes.io/serviceaccount"))
COMPLETE = Path(os.environ.get("COMPLETE", "/tmp/complete"))  # noqa: S108 - an emptyDir; there while all are copied
PAUSE = float(os.environ.get("PAUSE", "10"))  # seconds


def main() -> None:
    """Copy until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    source, copies = os.environ["SOURCE"], json.loads(os.environ["COPIES"])
    said: set[str] = set()
    while True:
        problems = set(round_(source, copies))
        for problem in sorted(problems - said):
            print(problem)
        said = problems
        if problems:
            COMPLETE.unlink(missing_ok=True)
        else:
            COMPLETE.touch()
        time.sleep(PAUSE if not problems else min(PAUSE, 2.0))


def round_(source: str, copies: Mapping[str, Mapping[str, list[str]]]) -> list[str]:
    """Copy what differs, and return why some Secrets are not copied."""
    problems = []
    for namespace, secrets in copies.items():
        for name, keys in secrets.items():
            try:
                problems += copy(source, namespace, name, keys)
            except urllib.error.HTTPError as error:
                error.close()
                problems.append(f"{namespace}/{name}: the API server answers {error.code} {error.reason}")
            except OSError as error:
                problems.append(f"{namespace}/{name}: {error}")
    return problems


def copy(source: str, namespace: str, name: str, keys: list[str]) -> list[str]:
    """Copy the keys of one Secret; return the ones that it does not have."""
    original = data_of(source, name)
    selected = {key: original[key] for key in keys if key in original}
    present = data_of(namespace, name)
    if any(present.get(key) != value for key, value in selected.items()):
        call("PATCH", f"/api/v1/namespaces/{namespace}/secrets/{name}", {"data": selected})
        print(f"{namespace}/{name}: copied {', '.join(selected)}")
    missing = [key for key in keys if key not in original]
    return [f"{namespace}/{name}: {source}/{name} has no {', '.join(missing)} yet"] if missing else []


def data_of(namespace: str, name: str) -> dict[str, str]:
    """Return the data of a Secret; empty if it does not exist."""
    try:
        return dict(call("GET", f"/api/v1/namespaces/{namespace}/secrets/{name}").get("data") or {})
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise
        error.close()
        return {}


def call(method: str, path: str, body: Any = None) -> dict[str, Any]:
    """Send one request to the API server and return its answer."""
    server = f"https://{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(server + path, data, method=method)  # noqa: S310 - https
    request.add_header("Authorization", f"Bearer {(ACCOUNT / 'token').read_text()}")
    request.add_header("Content-Type", "application/merge-patch+json")
    context = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    with urllib.request.urlopen(request, timeout=20, context=context) as answer:  # noqa: S310 - https
        return dict(json.load(answer))


if __name__ == "__main__":
    main()
