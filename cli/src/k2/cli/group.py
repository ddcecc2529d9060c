"""The command line as a whole: what is wrong with it, or with the environment, is one line that says what to change."""

import sys
from collections.abc import Sequence
from typing import Any

from typer import TyperException
from typer.core import TyperGroup

from k2.cli.exits import BAD_INPUT, say
from k2.common.validation_errors import InvalidSpec

_PLAINER = {"Value error, ": "", "Input should be ": "must be ", "Input should ": "must "}


class OneLineGroup(TyperGroup):
    """Commands that tell a usage error in one line and exit with 2. Without a command they tell what there is."""

    def main(  # the library's own, but for what is done with errors
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Runs a command, and exits with its code."""
        given = list(sys.argv[1:] if args is None else args) or ["--help"]
        try:
            code = super().main(given, prog_name, complete_var, False, windows_expand_args, **extra)
        except (TyperException, InvalidSpec) as error:
            if not standalone_mode:
                raise
            say(told(error, "k2 " + given[0] if given[0] in self.commands else "k2"))
            code = BAD_INPUT
        if standalone_mode:
            sys.exit(code or 0)
        return code


def told(error: TyperException | InvalidSpec, command: str) -> str:
    """The error in one line, with the command that it is about."""
    if isinstance(error, InvalidSpec):
        return str(error)
    message = " ".join(error.format_message().split()).rstrip(".")
    for words, plainer in _PLAINER.items():
        message = message.replace(words, plainer)
    context = getattr(error, "ctx", None)
    command = context.command_path if context else command
    return f"{command}: {message[:1].lower()}{message[1:]}; see {command} --help"
