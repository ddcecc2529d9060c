"""What an embedded platform says of itself in its folder, so that other commands find it, and a successor cleans up."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import msgspec
import psutil


class UnreadableState(ValueError):
    """A state file that is not one."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process that cannot be mistaken for a later one with the same id."""

    pid: int
    created: float

    @classmethod
    def of(cls, pid: int) -> "Process":
        """The process with this id now. Raises psutil.NoSuchProcess."""
        return cls(pid, psutil.Process(pid).create_time())

    def find(self) -> psutil.Process | None:
        """The process, if it still lives."""
        try:
            found = psutil.Process(self.pid)
            if abs(found.create_time() - self.created) < 1.0 and found.status() != psutil.STATUS_ZOMBIE:
                return found
        except psutil.NoSuchProcess:
            pass
        return None


@dataclass(slots=True)
class State:
    """One platform: its supervisor, the processes it runs, their ports, and the feeds."""

    supervisor: Process | None = None
    started_at: float = 0.0
    ports: dict[str, int] = field(default_factory=dict)
    children: dict[str, Process] = field(default_factory=dict)
    feeds: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)  # part, and why it is not started again
    simulated_since: float = 0.0  # when the simulated exchanges began to trade; 0: not simulated

    @property
    def running(self) -> bool:
        """Whether its supervisor lives."""
        return self.supervisor is not None and self.supervisor.find() is not None


def load(path: Path) -> State:
    """The state in a file; a new one if there is none. Raises `UnreadableState`."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=State)
    except FileNotFoundError:
        return State()
    except (OSError, msgspec.DecodeError) as error:
        raise UnreadableState(f"{path} cannot be read ({error}); delete it: tables and topics are elsewhere") from error


def save(path: Path, state: State) -> None:
    """Replaces the file at once, so that nobody reads half of it."""
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(asdict(state), indent=1), "utf-8")
    beside.replace(path)
