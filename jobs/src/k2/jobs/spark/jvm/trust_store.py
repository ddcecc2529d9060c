"""`python -m k2.jobs.spark.jvm.trust_store FILE` writes what a JVM trusts: the system's authorities and the settings'.

A JVM reads no PEM files. Iceberg's and Hadoop's S3 clients, and Iceberg's client of a REST catalog, have no trust store
of their own: they take the JVM's. The file is PKCS #12 with the attribute by which Java knows a trusted certificate.
"""

import re
import sys
import warnings
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, pkcs12

from k2.common.platform import Platform
from k2.common.validation_errors import InvalidSpec, Problem

PASSWORD: Final = "changeit"  # noqa: S105 - Java's own; certificates are public, and an empty one hides them
_BLOCK: Final = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_SYSTEM: Final = Path("/etc/ssl/certs/ca-certificates.crt")


def write(target: Path, files: Iterable[str]) -> None:
    """Write the trust store. Raises `OSError` naming a file, and `InvalidSpec` for one without certificates."""
    certificates = _of_system()
    for file in files:
        try:
            certificates += x509.load_pem_x509_certificates(Path(file).read_bytes())
        except ValueError as error:
            raise InvalidSpec([Problem("", file, "must be a file of certificates (PEM)")]) from error
    unique = {each.public_bytes(Encoding.DER): each for each in certificates}.values()
    aliased = [pkcs12.PKCS12Certificate(each, f"k2-{number}".encode()) for number, each in enumerate(unique)]
    target.write_bytes(pkcs12.serialize_java_truststore(aliased, BestAvailableEncryption(PASSWORD.encode())))


def _of_system() -> list[x509.Certificate]:
    """Return the system's authorities, without those that break the rules of X.509, of which some systems have one."""
    certificates = []
    for block in _BLOCK.findall(_SYSTEM.read_bytes()) if _SYSTEM.exists() else ():
        with warnings.catch_warnings(), suppress(ValueError, UserWarning):
            warnings.simplefilter("error")
            certificates.append(x509.load_pem_x509_certificate(block))
    return certificates


def properties(target: Path) -> dict[str, str]:
    """Return the system properties by which a JVM takes the trust store."""
    return {
        "javax.net.ssl.trustStore": str(target),
        "javax.net.ssl.trustStoreType": "PKCS12",
        "javax.net.ssl.trustStorePassword": PASSWORD,
    }


def main() -> int:
    """Write the trust store that the environment asks for; return the exit code."""
    try:
        write(Path(sys.argv[1]), Platform.read().ca_files)
    except (InvalidSpec, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
