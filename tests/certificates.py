"""Certificates that tests issue."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_DAY = timedelta(days=1)


class Authority:
    """A certificate authority. Files that it writes are PEM, keys PKCS #8."""

    def __init__(self, name: str) -> None:
        self._name, self._key = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), _new_key()
        self._certificate = self._sign(self._name, self._key, _DAY, authority=True)

    def write_certificate(self, file: Path) -> Path:
        """Write its own certificate."""
        file.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))
        return file

    def issue(self, name: str, folder: Path, valid: timedelta = _DAY) -> tuple[Path, Path]:
        """Write a certificate for this machine and a name, and its key."""
        folder.mkdir(exist_ok=True)
        key = _new_key()
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate, key_file = folder / "user.crt", folder / "user.key"
        certificate.write_bytes(self._sign(subject, key, valid).public_bytes(serialization.Encoding.PEM))
        key_file.write_bytes(_pem(key))
        return certificate, key_file

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, valid: timedelta, *, authority: bool = False
    ) -> x509.Certificate:
        until = datetime.now(UTC) + valid
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(until - 10 * _DAY)
            .not_valid_after(until)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if not authority:
            names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self._key, hashes.SHA256())


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
