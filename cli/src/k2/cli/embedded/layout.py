"""Paths of an embedded platform's files under its folder. No process is started here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from k2.common import kafka_connection
from k2.common.kafka_connection import SecurityProtocol
from k2.common.platform import Platform

DEFAULT: Final = Path(".k2")


@dataclass(frozen=True, slots=True)
class Layout:
    """The folder of one embedded platform."""

    root: Path

    @classmethod
    def at(cls, root: Path) -> "Layout":
        """Return the layout of a folder, which need not exist yet."""
        return cls(root.expanduser().absolute())

    @property
    def state(self) -> Path:
        """The running processes and their ports: JSON, written by the supervisor."""
        return self.root / "state.json"

    @property
    def lock(self) -> Path:
        """The lock file of the running supervisor."""
        return self.root / "lock"

    @property
    def feeds(self) -> Path:
        """The feed files of the last `k2 up`, as its processes read them."""
        return self.root / "feeds"

    @property
    def kafka(self) -> Path:
        """The broker's configuration and log."""
        return self.root / "kafka"

    @property
    def registry(self) -> Path:
        """The schema registry's SQLite file."""
        return self.root / "registry.db"

    @property
    def catalog(self) -> Path:
        """The Iceberg catalog's SQLite file."""
        return self.root / "catalog.db"

    @property
    def logs(self) -> Path:
        """The logs, one file per process."""
        return self.root / "logs"

    def log(self, part: str) -> Path:
        """Return the log of one process: broker, jobs, ingest-<feed>-<shard>-<replica>, simulator-<exchange>."""
        return self.logs / f"{part}.log"

    def platform(self, *, kafka_port: int = 9092, registry_port: int = 8081) -> Platform:
        """Return the settings of the platform's services. Reading tables does not need the ports.

        Raises `InvalidSpec` for invalid environment variables.
        """
        return Platform.read(
            kafka_bootstrap=f"127.0.0.1:{kafka_port}",
            kafka_security_protocol=SecurityProtocol.PLAINTEXT,  # whatever the environment says of a cluster's
            **{f"kafka_{name}": "" for name in kafka_connection.FIELDS},
            registry_url=f"http://127.0.0.1:{registry_port}",
            catalog_uri=f"sqlite:///{self.catalog}",
            warehouse=f"file://{self.root}/warehouse",
            checkpoints=f"{self.root}/checkpoints",
        )
