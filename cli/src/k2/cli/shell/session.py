"""What a statement or a command of the shell does, whether it comes from a terminal, a file or a pipe."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final

from k2.cli import output
from k2.cli.output import Format
from k2.cli.shell.splitter import Piece
from k2.query.errors import BadQuery
from k2.query.execution.cancellation import Interrupt
from k2.query.sql.quoting import quote_identifier

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from k2.query.engine import Engine
    from k2.query.times import AsOf

HELP: Final = """\
\\d [TABLE]              list the tables, or the columns of one
\\format [FORMAT]        table, json or csv
\\timing [on|off]        print how long each statement takes
\\pager [on|off]         show long results page by page
\\?                      this help
\\q                      leave; also ctrl-d
A statement ends with a semicolon and may have several lines. ctrl-c cancels the one that runs.
"""
_TEXT_FORMATS: Final = (Format.TABLE, Format.JSON, Format.CSV)


class Quit(Exception):
    """The user leaves the shell."""


@dataclass(slots=True)
class Session:
    """The settings of a shell, and the engine that its statements run on.

    Args:
        engine: What runs statements.
        sink: Open where the rows of one result go.
        say: Print a line that belongs to no result.
        form: The format of the results.
        as_of: As of when tables are read.

    """

    engine: "Engine"
    sink: "Callable[[], AbstractContextManager[IO[bytes]]]"
    say: Callable[[str], None]
    form: Format = Format.TABLE
    as_of: "AsOf | None" = None
    timing: bool = False
    pager: bool = True
    counts: bool = False  # print the number of rows after each result

    def execute(self, piece: Piece) -> None:
        """Run a statement or a command. Raises `BadQuery`, `Unavailable`, or `Quit`."""
        if piece.is_command:
            self._command(*piece.text[1:].split(maxsplit=1))
        elif not piece.complete and piece.text.lower() in {"exit", "quit"}:
            raise Quit
        else:
            self._query(piece.text)

    def _query(self, statement: str) -> None:
        started = time.perf_counter()
        with cancelled_by_ctrl_c():
            reader = self.engine.sql_reader(statement, as_of=self.as_of)
            with self.sink() as sink:
                count = output.write_rows(reader, self.form, sink)
        if self.counts and self.form is Format.TABLE:
            self.say(f"({count} row{'' if count == 1 else 's'})")
        if self.timing:
            self.say(f"{1000 * (time.perf_counter() - started):.1f} ms")

    def _command(self, name: str = "", argument: str = "") -> None:
        argument = argument.strip().rstrip(";")
        match name.rstrip(";"):
            case "q":
                raise Quit
            case "?" | "h" | "help":
                self.say(HELP.rstrip("\n"))
            case "d" | "dt":
                self._query(f"DESCRIBE {quote_identifier(argument)}" if argument else "SHOW TABLES")
            case "timing":
                self.timing = _switched(argument, self.timing)
                self.say(f"timing is {'on' if self.timing else 'off'}")
            case "pager":
                self.pager = _switched(argument, self.pager)
                self.say(f"pager is {'on' if self.pager else 'off'}")
            case "format":
                self._set_format(argument)
            case _:
                raise BadQuery(f"\\{name[:20]} is no command; \\? lists them")

    def _set_format(self, name: str) -> None:
        if name:
            if name not in _TEXT_FORMATS:
                raise BadQuery(f"{name[:20]!r} is no format of the shell; use {', '.join(_TEXT_FORMATS)}")
            self.form = Format(name)
        self.say(f"format is {self.form}")


@contextmanager
def cancelled_by_ctrl_c() -> Iterator[None]:
    """End the process of the statement when ctrl-c interrupts this one, and raise `KeyboardInterrupt`."""
    interrupt = Interrupt()
    try:
        with interrupt.scope():
            yield
    except BaseException:
        interrupt()
        raise


def _switched(word: str, current: bool) -> bool:
    match word:
        case "":
            return not current
        case "on" | "off":
            return word == "on"
    raise BadQuery(f"{word[:20]!r} is neither on nor off")
