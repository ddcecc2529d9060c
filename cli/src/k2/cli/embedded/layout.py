"""Paths of an embedded platform's files under its folder. No process is started here."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from k2.cli.embedded import foreign_tables
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
    def foreign_tables(self) -> Path:
        """Which REST catalog has the tables, if the folder itself has none: JSON, written by the supervisor."""
        return self.root / "tables.json"

    @property
    def has_tables(self) -> bool:
        """Whether a platform has made tables, here or in a REST catalog."""
        return self.catalog.exists() or self.foreign_tables.exists()

    @property
    def logs(self) -> Path:
        """The logs, one file per process."""
        return self.root / "logs"

    def log(self, part: str) -> Path:
        """Return the log of one process: broker, jobs, ingest-<feed>-<shard>-<replica>, simulator-<exchange>."""
        return self.logs / f"{part}.log"

    def platform(self, *, kafka_port: int = 9092, registry_port: int = 8081) -> Platform:
        """Return the settings of the platform's services. Reading tables does not need the ports.

        The tables are in the folder, unless the environment names a REST catalog. Raises `InvalidSpec` for invalid
        environment variables, and for a catalog that does not have the folder's tables.
        """
        platform = Platform.read(
            kafka_bootstrap=f"127.0.0.1:{kafka_port}",
            kafka_security_protocol=SecurityProtocol.PLAINTEXT,  # whatever the environment says of a cluster's
            **{f"kafka_{name}": "" for name in kafka_connection.FIELDS},
            registry_url=f"http://127.0.0.1:{registry_port}",
            checkpoints=f"{self.root}/checkpoints",
            **({} if foreign_tables.are_named(os.environ) else foreign_tables.local(self.root, self.catalog)),
        )
        foreign_tables.check(self.root, self.foreign_tables, self.catalog, platform)
        return platform
