"""One process of an embedded platform: started with a log of its own, started again when it dies, stopped in time."""

import asyncio
import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import psutil

from k2.cli.embedded.state import Process

_RESTART_FIRST: Final = 1.0
_RESTART_LIMIT: Final = 30.0
_STEADY: Final = 60.0  # a process that lived so long is started again at once
_TAIL: Final = 8192
_BAD_INPUT, _UNREACHABLE = 2, 3


class Child:
    """One process. `failed` says why it is not started again."""

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
        self._pause = _RESTART_FIRST
        self._retry_at = 0.0

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.returncode is None

    @property
    def process(self) -> Process | None:
        """Its identity, while it runs."""
        if not self.alive:
            return None
        assert self._process is not None
        try:
            return Process.of(self._process.pid)
        except psutil.NoSuchProcess:
            return None

    async def start(self) -> None:
        """Starts it, its output going to the end of its log."""
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._env,
                start_new_session=True,  # ctrl-c is for the supervisor, which stops its children in order
            )
        self._started_at = time.monotonic()

    async def watch(self) -> bool:
        """Starts it again if it died, after a pause that grows; says whether anything changed.

        A process that says that its input is bad, or that a service cannot be reached, is believed.
        """
        if self.alive or self.failed:
            return False
        assert self._process is not None
        now = time.monotonic()
        if not self._retry_at:
            self.code = self._process.returncode or 0
            if self.code in {_BAD_INPUT, _UNREACHABLE}:
                self.failed = self.last_words() or f"ended with {self.code}"
                return True
            if now - self._started_at > _STEADY:
                self._pause = _RESTART_FIRST
            self._retry_at, self._pause = now + self._pause, min(_RESTART_LIMIT, self._pause * 2)
            return True
        if now < self._retry_at:
            return False
        self._retry_at = 0.0
        self.restarts += 1
        await self.start()
        return True

    async def stop(self, grace: float) -> int:
        """Asks it to stop, and ends it after `grace` seconds; returns its exit code."""
        if self._process is None:
            return 0
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(grace):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
        return self._process.returncode or 0

    def last_words(self) -> str:
        """The last line of its log."""
        try:
            with self._log.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
                lines = file.read().decode("utf-8", "replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1] if lines else ""
