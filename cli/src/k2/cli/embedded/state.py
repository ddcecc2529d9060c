"""State file of an embedded platform, by which other commands find it and a later start cleans up after a crash."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import msgspec
import psutil


class UnreadableState(ValueError):
    """The state file is not readable."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process identified by id and creation time, so that a reused id is not mistaken for it."""

    pid: int
    created: float

    @classmethod
    def of(cls, pid: int) -> "Process":
        """Return the identity of a running process. Raises psutil.NoSuchProcess."""
        return cls(pid, psutil.Process(pid).create_time())

    def find(self) -> psutil.Process | None:
        """Return the process if it is still running, else None."""
        try:
            process = psutil.Process(self.pid)
            if abs(process.create_time() - self.created) < 1.0 and process.status() != psutil.STATUS_ZOMBIE:
                return process
        except psutil.NoSuchProcess:
            pass
        return None


@dataclass(slots=True)
class State:
    """The state of a platform: supervisor, child processes, ports and feeds."""

    supervisor: Process | None = None
    started_at: float = 0.0
    ports: dict[str, int] = field(default_factory=dict)
    children: dict[str, Process] = field(default_factory=dict)
    feeds: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)  # part: why it is not restarted
    simulated_since: float = 0.0  # Unix time at which the simulated exchanges began to trade; 0: not simulated

    @property
    def running(self) -> bool:
        """Whether the supervisor is running."""
        return self.supervisor is not None and self.supervisor.find() is not None


def load(path: Path) -> State:
    """Load the state; return an empty one if there is no file. Raises `UnreadableState`."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=State)
    except FileNotFoundError:
        return State()
    except (OSError, msgspec.DecodeError) as error:
        raise UnreadableState(
            f"{path} cannot be read ({error}); delete it; tables and topics are stored elsewhere"
        ) from error


def save(path: Path, state: State) -> None:
    """Replace the file atomically."""
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(asdict(state), indent=1), "utf-8")
    temporary.replace(path)
