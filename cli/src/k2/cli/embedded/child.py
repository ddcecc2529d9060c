"""A child process of an embedded platform: its own log, restarts with backoff, a graceful stop."""

import asyncio
import os
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil

from k2.cli.embedded.state import Process

_RESTART_DELAY: Final = 1.0
_MAX_RESTART_DELAY: Final = 30.0
_STABLE_AFTER: Final = 60.0  # seconds of uptime that reset the restart delay
_TAIL: Final = 8192
_BAD_INPUT, _UNREACHABLE = 2, 3


class Child:
    """One process. `failed` is the reason why it is not restarted; empty while it is."""

    def __init__(self, name: str, command: Sequence[str], env: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.failed = ""
        self.code = 0
        self.restarts = 0
        self._command = list(command)
        self._env = {**os.environ, **env}
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._started_at = 0.0
        self._restart_delay = _RESTART_DELAY
        self._retry_at = 0.0

    @property
    def alive(self) -> bool:
        """Whether the process is running."""
        return self._process is not None and self._process.returncode is None

    @property
    def process(self) -> Process | None:
        """The identity of the running process; None if it is not running."""
        if not self.alive:
            return None
        assert self._process is not None
        try:
            return Process.of(self._process.pid)
        except psutil.NoSuchProcess:
            return None

    async def start(self) -> None:
        """Start the process, appending its output to its log."""
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._env,
                start_new_session=True,  # Ctrl-C goes to the supervisor, which stops its children in order
            )
        self._started_at = time.monotonic()

    async def watch(self) -> bool:
        """Restart the process if it died, with exponential backoff; return whether anything changed.

        A process that exits with 2 or 3, for bad input or an unreachable service, is not restarted.
        """
        if self.alive or self.failed:
            return False
        assert self._process is not None
        now = time.monotonic()
        if not self._retry_at:
            self.code = self._process.returncode or 0
            if self.code in {_BAD_INPUT, _UNREACHABLE}:
                self.failed = self.last_log_line() or f"exited with code {self.code}"
                return True
            if now - self._started_at > _STABLE_AFTER:
                self._restart_delay = _RESTART_DELAY
            self._retry_at, self._restart_delay = (
                now + self._restart_delay,
                min(_MAX_RESTART_DELAY, self._restart_delay * 2),
            )
            return True
        if now < self._retry_at:
            return False
        self._retry_at = 0.0
        self.restarts += 1
        await self.start()
        return True

    async def stop(self, grace: float) -> int:
        """Terminate the process, kill it after `grace` seconds, and return its exit code."""
        if self._process is None:
            return 0
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(grace):
                    await self._process.wait()
            except TimeoutError:
                with suppress(ProcessLookupError):  # it has exited meanwhile
                    self._process.kill()
                await self._process.wait()
        return self._process.returncode or 0

    def last_log_line(self) -> str:
        """Return the last line of its log, or an empty string."""
        try:
            with self._log.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
                lines = file.read().decode("utf-8", "replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1] if lines else ""
