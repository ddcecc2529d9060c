"""Check that the shared services of K2 are reachable from this namespace; exit 1 if one is not."""  # noqa: INP001

import os
import socket
import sys
import urllib.request
from urllib.parse import urlsplit


def main() -> int:
    """Check each service of the environment variables, and print the results."""
    failures = 0
    for name, host, port in addresses():
        try:
            socket.create_connection((host, port), 10).close()
        except OSError as error:
            failures += 1
            print(f"{name}: {host}:{port} is unreachable: {error}")
        else:
            print(f"{name}: {host}:{port} is reachable")
    for name, url in pages():
        try:
            with urllib.request.urlopen(url, timeout=10) as response:  # noqa: S310 - the address in the chart's values
                print(f"{name}: {url} returned {response.status}")
        except OSError as error:
            failures += 1
            print(f"{name}: {url} failed: {error}")
    return 1 if failures else 0


def addresses() -> list[tuple[str, str, int]]:
    """Return name, host and port of the services that are checked by a TCP connection."""
    services = []
    for server in os.environ["K2_KAFKA_BOOTSTRAP"].split(","):
        host, _, port = server.strip().rpartition(":")
        services.append(("kafka", host, int(port)))
    catalog = urlsplit(os.environ["K2_CATALOG_URI"])
    services.append(
        ("catalog", str(catalog.hostname), catalog.port or {"http": 80, "https": 443}.get(catalog.scheme, 5432))
    )
    if endpoint := os.environ.get("K2_S3_ENDPOINT"):
        store = urlsplit(endpoint)
        services.append(("s3", str(store.hostname), store.port or {"http": 80}.get(store.scheme, 443)))
    return services


def pages() -> list[tuple[str, str]]:
    """Return name and URL of the services that are checked by an HTTP request."""
    urls = [("registry", os.environ["K2_REGISTRY_URL"].rstrip("/") + "/subjects")]
    if query := os.environ.get("K2_QUERY_URL"):
        urls.append(("query", f"{query}/readyz"))
    return urls


if __name__ == "__main__":
    sys.exit(main())
