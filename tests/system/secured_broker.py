"""The embedded broker with listeners for TLS and for SCRAM, users with ACLs, and certificates that tests issue."""

import asyncio
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path

from confluent_kafka.admin import (
    AclBinding,  # type: ignore[attr-defined]
    AclOperation,  # type: ignore[attr-defined]
    AclPermissionType,  # type: ignore[attr-defined]
    AdminClient,
    ResourcePatternType,  # type: ignore[attr-defined]
    ResourceType,  # type: ignore[attr-defined]
    ScramCredentialInfo,  # type: ignore[attr-defined]
    ScramMechanism,  # type: ignore[attr-defined]
    UserScramCredentialUpsertion,  # type: ignore[attr-defined]
)

from k2.cli.embedded import broker as embedded
from k2.cli.embedded import ports
from k2.common.kafka_connection import KafkaConnection, SecurityProtocol
from k2.jobs.spark.jvm.java import find_java
from tests.certificates import Authority

_DAY = timedelta(days=1)


@dataclass
class SecuredBroker:
    """A running broker; `authority` signs for it and for its clients. ANONYMOUS, over plaintext, may do everything."""

    folder: Path
    authority: Authority
    address: str
    tls_address: str
    scram_address: str

    @cached_property
    def admin(self) -> AdminClient:
        """A client that may do everything. What it was asked for fails when it is collected."""
        return AdminClient({"bootstrap.servers": self.address, "log_level": 0})

    def user(self, name: str, password: str) -> KafkaConnection:
        """Create a user, or change the password; return the connection with files of its own."""
        credentials = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        upsertion = UserScramCredentialUpsertion(name, credentials, password.encode())
        for future in self.admin.alter_user_scram_credentials([upsertion]).values():
            future.result(30)
        folder = self.folder / f"scram-{name}"
        folder.mkdir(exist_ok=True)
        (folder / "password").write_text(password)
        return KafkaConnection(
            self.scram_address,
            SecurityProtocol.SASL_SSL,
            ca_file=str(self.authority.write_certificate(folder / "ca.crt")),
            username=name,
            password_file=str(folder / "password"),
        )

    def client_certificate(self, name: str, valid: timedelta = _DAY) -> KafkaConnection:
        """Issue a certificate; return the connection with it."""
        folder = self.folder / f"tls-{name}"
        certificate, key = self.authority.issue(name, folder, valid)
        return KafkaConnection(
            self.tls_address,
            SecurityProtocol.SSL,
            ca_file=str(self.authority.write_certificate(folder / "ca.crt")),
            certificate_file=str(certificate),
            key_file=str(key),
        )

    def allow(self, principal: str, kind: ResourceType, name: str, *operations: AclOperation) -> None:
        """Allow a principal to do something with a topic, or with topics or groups of a prefix (it ends in . or -)."""
        prefix = name.endswith((".", "-"))
        pattern = ResourcePatternType.PREFIXED if prefix else ResourcePatternType.LITERAL
        bindings: Sequence[AclBinding] = [
            AclBinding(kind, name, pattern, f"User:{principal}", "*", operation, AclPermissionType.ALLOW)
            for operation in operations
        ]
        for future in self.admin.create_acls(list(bindings)).values():
            future.result(30)


@contextmanager
def secured_broker(folder: Path, authority: Authority) -> Iterator[SecuredBroker]:
    """Run a broker whose certificate the authority signs."""
    java, port, controller, tls, scram = find_java(), *(ports.free() for _ in range(4))
    embedded.prepare(java, folder, port, controller)
    certificate, key = authority.issue("broker", folder / "broker-identity")
    identity = folder / "broker.pem"
    identity.write_bytes(key.read_bytes() + certificate.read_bytes())
    configuration = folder / "server.properties"
    lines = configuration.read_text().splitlines()
    added = f",TLS://127.0.0.1:{tls},SCRAM://127.0.0.1:{scram}"
    lines = [line + added if line.startswith(("listeners=", "advertised.listeners=")) else line for line in lines]
    login = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    settings = {
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,TLS:SSL,SCRAM:SASL_SSL",
        "inter.broker.listener.name": "PLAINTEXT",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": identity,
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": authority.write_certificate(folder / "clients.crt"),
        "listener.name.tls.ssl.client.auth": "required",
        "listener.name.scram.sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.scram.scram-sha-512.sasl.jaas.config": login,
        "listener.name.scram.scram-sha-512.connections.max.reauth.ms": 4000,  # so that an old password ends soon
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
        "ssl.principal.mapping.rules": "RULE:^CN=([^,]+).*$/$1/",
    }
    configuration.write_text("\n".join([*lines, *(f"{name}={value}" for name, value in settings.items())]) + "\n")
    child = embedded.child(java, folder, folder / "broker.log")
    loop = asyncio.new_event_loop()

    async def start() -> None:
        await child.start()
        await embedded.ready(child, port)

    try:
        loop.run_until_complete(start())
        yield SecuredBroker(folder, authority, f"127.0.0.1:{port}", f"127.0.0.1:{tls}", f"127.0.0.1:{scram}")
    finally:
        loop.run_until_complete(child.stop(10))
        loop.close()
        shutil.rmtree(folder, ignore_errors=True)
