"""Whether the services that K2 shares answer a pod of this namespace. Ends with 1 if one does not."""  # noqa: INP001

import os
import socket
import sys
import urllib.request
from urllib.parse import urlsplit


def main() -> int:
    """Asks each service that the environment names."""
    failures = 0
    for name, host, port in addresses():
        try:
            socket.create_connection((host, port), 10).close()
        except OSError as error:
            failures += 1
            print(f"{name}: {host}:{port} cannot be reached: {error}")
        else:
            print(f"{name}: {host}:{port} answers")
    for name, url in pages():
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - the values' own address
                print(f"{name}: {url} answers {answer.status}")
        except OSError as error:
            failures += 1
            print(f"{name}: {url} does not serve: {error}")
    return 1 if failures else 0


def addresses() -> list[tuple[str, str, int]]:
    """Name, host and port of what is talked to over TCP."""
    found = []
    for server in os.environ["K2_KAFKA_BOOTSTRAP"].split(","):
        host, _, port = server.strip().rpartition(":")
        found.append(("kafka", host, int(port)))
    catalog = urlsplit(os.environ["K2_CATALOG_URI"])
    found.append(("catalog", str(catalog.hostname), catalog.port or 5432))
    if endpoint := os.environ.get("K2_S3_ENDPOINT"):
        store = urlsplit(endpoint)
        found.append(("s3", str(store.hostname), store.port or {"http": 80}.get(store.scheme, 443)))
    return found


def pages() -> list[tuple[str, str]]:
    """Name and address of what is asked over HTTP."""
    found = [("registry", os.environ["K2_REGISTRY_URL"].rstrip("/") + "/subjects")]
    if query := os.environ.get("K2_QUERY_URL"):
        found.append(("query", f"{query}/readyz"))
    return found


if __name__ == "__main__":
    sys.exit(main())
