"""Where an embedded platform keeps what it has: one folder, the same names always. No process is started here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from k2.common.platform import Platform

DEFAULT: Final = Path(".k2")


@dataclass(frozen=True, slots=True)
class Layout:
    """The folder of one embedded platform."""

    root: Path

    @classmethod
    def at(cls, root: Path) -> "Layout":
        """The layout under a folder, which need not exist yet."""
        return cls(root.expanduser().absolute())

    @property
    def state(self) -> Path:
        """What runs, and on which ports: JSON, written by the supervisor."""
        return self.root / "state.json"

    @property
    def lock(self) -> Path:
        """Held for as long as a supervisor lives."""
        return self.root / "lock"

    @property
    def feeds(self) -> Path:
        """The feeds that `k2 up` was last given, as the processes read them."""
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
        """One file a process."""
        return self.root / "logs"

    def log(self, part: str) -> Path:
        """The log of one part: broker, jobs, ingest-<feed>-<shard>-<replica>, simulator-<exchange>."""
        return self.logs / f"{part}.log"

    def platform(self, *, kafka_port: int = 9092, registry_port: int = 8081) -> Platform:
        """The services as K2's processes are told of them. Tables can be read with the ports unknown.

        Raises `InvalidSpec` for what the environment says of the rest.
        """
        return Platform.read(
            kafka_bootstrap=f"127.0.0.1:{kafka_port}",
            registry_url=f"http://127.0.0.1:{registry_port}",
            catalog_uri=f"sqlite:///{self.catalog}",
            warehouse=f"file://{self.root}/warehouse",
            checkpoints=f"{self.root}/checkpoints",
        )
