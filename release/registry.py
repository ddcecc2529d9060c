"""Read the digest of an image's tag from its registry, by the distribution API."""

import hashlib
import re
from typing import Final

from httpx2 import Client, HTTPError, Response

_HUB: Final = "registry-1.docker.io"
# An index of several platforms comes first: its digest is right for every node.
_KINDS: Final = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_CHALLENGE: Final = re.compile(r'([a-z]+)="([^"]*)"')
_MOST_BYTES: Final = 4 * 2**20  # the distribution API's own limit of a manifest


class DigestUnavailable(RuntimeError):
    """A registry cannot be reached, lacks the tag, or gives an answer that does not verify."""


def digest(client: Client, repository: str, tag: str) -> str:
    """Return `sha256:...` of the manifest that a tag names now, computed from its bytes. Raises `DigestUnavailable`."""
    host, path = _split(repository)
    url = f"{_scheme(host)}://{host}/v2/{path}/manifests/{tag}"
    try:
        answer = _get(client, url, path)
    except HTTPError as error:
        raise DigestUnavailable(f"{host} cannot be reached ({type(error).__name__}: {error})") from error
    if answer.status_code != 200:
        raise DigestUnavailable(f"{host} answered {answer.status_code} for {path}:{tag}")
    kind = answer.headers.get("content-type", "").partition(";")[0]
    if kind not in _KINDS or len(answer.content) > _MOST_BYTES:
        raise DigestUnavailable(f"{host} answered something that is no manifest ({kind or 'no content type'})")
    computed = f"sha256:{hashlib.sha256(answer.content).hexdigest()}"
    announced = answer.headers.get("docker-content-digest", computed)
    if announced != computed:
        raise DigestUnavailable(f"{host} announced {announced}, but the manifest's bytes have {computed}")
    return computed


def _split(repository: str) -> tuple[str, str]:
    """Return host and path of a repository, by Docker's rules for short names."""
    first, slash, rest = repository.partition("/")
    if slash and (first == "localhost" or "." in first or ":" in first):
        return (_HUB if first == "docker.io" else first), rest
    return _HUB, repository if slash else f"library/{repository}"


def _scheme(host: str) -> str:
    return "http" if host.partition(":")[0] in {"localhost", "127.0.0.1"} else "https"


def _get(client: Client, url: str, path: str) -> Response:
    accept = {"Accept": ", ".join(_KINDS)}
    answer = client.get(url, headers=accept)
    if answer.status_code != 401:
        return answer
    scheme, _, parameters = answer.headers.get("www-authenticate", "").partition(" ")
    challenge = dict(_CHALLENGE.findall(parameters))
    if scheme.lower() != "bearer" or "realm" not in challenge:
        return answer
    query = {"scope": challenge.get("scope", f"repository:{path}:pull")}
    query |= {"service": challenge["service"]} if "service" in challenge else {}
    token = client.get(challenge["realm"], params=query)
    if token.status_code != 200:
        return token
    words = token.json()
    bearer = {"Authorization": f"Bearer {words.get('token') or words.get('access_token')}"}
    return client.get(url, headers=accept | bearer)
