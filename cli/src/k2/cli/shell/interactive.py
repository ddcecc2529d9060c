"""The shell on a terminal: history, completion, statements of several lines, and a pager."""

import importlib
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final, cast

from prompt_toolkit import PromptSession
from prompt_toolkit.filters import Condition
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.lexers import Lexer, PygmentsLexer

from k2.cli.exits import ignore_sigpipe
from k2.cli.output import Format
from k2.cli.shell.completion import SqlCompleter
from k2.cli.shell.session import Quit, Session
from k2.cli.shell.splitter import is_complete, split
from k2.query.errors import BadQuery, BadStatement, Unavailable

_PROMPT: Final = "k2> "
_CONTINUED: Final = "..> "
_PAGER: Final = "less -SFRX"


def run(session: Session, tables: Callable[[], Mapping[str, Iterable[str]]], welcome: str) -> None:
    """Read and run statements until the user leaves."""
    ignore_sigpipe()  # a pager may end before it has read everything
    prompt: PromptSession[str] = PromptSession(
        history=_history(),
        completer=SqlCompleter(tables),
        complete_while_typing=False,
        lexer=_highlighting(),
        multiline=Condition(lambda: _continues(prompt.default_buffer.text)),
        prompt_continuation=_CONTINUED,
    )
    session.sink = lambda: _pager(enabled=session.pager and session.form is Format.TABLE)
    session.say(welcome)
    while True:
        try:
            text = prompt.prompt(_PROMPT)
        except KeyboardInterrupt:  # clears the line
            continue
        except EOFError:
            return
        try:
            _run_all(session, text)
        except Quit:
            return


def _run_all(session: Session, text: str) -> None:
    try:
        for piece in split(text):
            session.execute(piece)
    except KeyboardInterrupt:
        session.say("cancelled")
    except BadStatement as error:
        session.say("\n".join([str(error), *(error.position.excerpt() if error.position else ())]))
    except (BadQuery, Unavailable) as error:
        session.say(" ".join(str(error).split()))


def _continues(text: str) -> bool:
    """Return whether Enter begins another line: a statement has begun and not ended."""
    return text.strip().lower() not in {"exit", "quit"} and not is_complete(text)


def _highlighting() -> Lexer:
    lexers = importlib.import_module("pygments.lexers.sql")  # it has no types
    return PygmentsLexer(lexers.PostgresLexer)


def _history() -> History:
    """Return the history of all shells of this user; where it cannot be written, that of this shell alone."""
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    path = Path(state).expanduser() / "k2" / "sql_history"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
    except OSError:
        return InMemoryHistory()
    return FileHistory(path)


@contextmanager
def _pager(*, enabled: bool) -> Iterator[IO[bytes]]:
    """Open where the rows of a result go: a pager, which leaves what fits on the screen there."""
    words = shlex.split(os.environ.get("PAGER") or _PAGER)
    if not enabled or not words or shutil.which(words[0]) is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    pager = _Pager(words)
    try:
        yield cast("IO[bytes]", pager)  # of a file, only `write` is used
    except BrokenPipeError:  # left before the end
        pass
    finally:
        pager.close()


class _Pager:
    """A program that starts with the first rows: until then, ctrl-c is for the statement alone."""

    def __init__(self, words: list[str]) -> None:
        self._words = words
        self._process: subprocess.Popen[bytes] | None = None

    def write(self, data: bytes) -> int:
        """Pass rows on. Raises `BrokenPipeError` once the program has ended."""
        if self._process is None:
            self._process = subprocess.Popen(self._words, stdin=subprocess.PIPE)
        assert self._process.stdin is not None
        return self._process.stdin.write(data)

    def close(self) -> None:
        """Wait until the user leaves the program."""
        if self._process is None:
            return
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        while self._process.returncode is None:
            with suppress(KeyboardInterrupt):  # is for the pager
                self._process.wait()
