"""The shell on a pseudo terminal, as a person uses it."""

import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from k2.cli.embedded.layout import Layout
from tests.unit.query.conftest import Append, trade
from tests.unit.query.sql.cage.running import K2, statement_processes

_SEQUENCES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\x1b\][^\x07]*\x07|\r")
_OWN_TERMINAL = (
    "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execvp(sys.argv[1], sys.argv[1:])"
)
_DEADLINE = 90.0  # of one answer, on a busy machine


class Terminal:
    """A program on a pseudo terminal."""

    def __init__(self, words: list[str], environment: dict[str, str]) -> None:
        self._screen, theirs = pty.openpty()
        command = [sys.executable, "-c", _OWN_TERMINAL, *words]
        self.process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
        os.close(theirs)
        self._unread = ""

    def type(self, text: str) -> None:
        os.write(self._screen, text.encode())

    def enter(self, line: str, end: str = "\r") -> None:
        """Type a line at the next prompt."""
        self.expect("k2>")
        self.type(line + end)

    def expect(self, pattern: str) -> str:
        """Return what is printed up to a pattern."""
        until = time.monotonic() + _DEADLINE
        while not (match := re.search(pattern, self._unread)):
            ready, _, _ = select.select([self._screen], [], [], max(0.0, until - time.monotonic()))
            assert ready, f"no {pattern!r} in {self._unread!r}"
            data = os.read(self._screen, 65536).decode(errors="replace")
            if "\x1b[6n" in data:
                self.type("\x1b[1;1R")  # where the cursor is, which the prompt asks for
            self._unread += _SEQUENCES.sub("", data)
        before, self._unread = self._unread[: match.end()], self._unread[match.end() :]
        return before

    def interrupt(self) -> None:
        """Press ctrl-c once a statement runs: the prompt that gave it may not have left the terminal before."""
        statement_processes(self.process.pid)
        self.type("\x03")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._screen)


@pytest.fixture
def shell(layout: Layout, append: Append, tmp_path: Path) -> Iterator[Terminal]:
    append([trade(number) for number in range(3)])
    words = [*K2, "sql", "--data", str(layout.root)]
    environment = os.environ | {"TERM": "xterm", "XDG_STATE_HOME": str(tmp_path), "PAGER": "cat"}
    terminal = Terminal(words, environment)
    yield terminal
    terminal.close()


def test_a_session_on_a_terminal(shell: Terminal, tmp_path: Path) -> None:
    shell.expect(r"1 tables in .*\\q leaves")
    shell.enter("SELECT count(*)")  # not ended: the next line belongs to it
    shell.type("AS n FROM gold_crypto_trades;\r")
    shell.expect(r"N\n3\n\(1 row\)")
    shell.enter("SELECT symbl FROM gold_crypto_trades;")
    shell.expect(r'line 1, column 8: there is no column "symbl"; did you mean symbol\?\n')
    shell.expect(r"\n       \^\n")
    shell.enter("DESCRIBE gold_cry\t", end="")
    shell.expect("pto_trades")
    shell.type(";\r")
    shell.expect(r"message_id +VARCHAR")
    shell.enter("\\timing")
    shell.expect(r"timing is on")
    shell.enter("\\d")
    shell.expect(r"NAME\ngold_crypto_trades\n\(1 row\)\n\d+\.\d ms")
    shell.enter("SELECT count(*) FROM range(100000) a, range(100000) b, range(100000) c;")
    shell.expect(r"range\(100000\) c;\n")
    shell.interrupt()
    shell.expect("cancelled")
    shell.enter("SELECT 40 + 2 AS answer;")
    shell.expect(r"ANSWER\n +42\n")
    shell.enter("\\q")
    assert shell.process.wait(_DEADLINE) == 0
    assert "+SELECT 40 + 2 AS answer;" in (tmp_path / "k2" / "sql_history").read_text("utf-8")
