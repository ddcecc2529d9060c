"""The command group: reports a wrong command line or environment in one line that says what to change."""

import sys
from collections.abc import Sequence
from typing import Any, Final

from typer import TyperException
from typer.core import TyperGroup

from k2.cli.exits import BAD_INPUT, say
from k2.common.environment import misspelt_variables
from k2.common.platform import Platform
from k2.common.validation_errors import InvalidSpec

_PHRASES: Final = {"Value error, ": "", "Input should be ": "must be ", "Input should ": "must "}
# What K2 reads on this machine beside the settings of its services and of the HTTP API, which checks its own.
_VARIABLES: Final = ("CACHE", "JAVA", "KEY", "MAVEN", "VERSION")


class OneLineGroup(TyperGroup):
    """A group that reports a usage error in one line and exits with 2; without a command it prints the help."""

    def main(  # as in the base class, except for the handling of errors
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command and exit with its code."""
        given = list(sys.argv[1:] if args is None else args) or ["--help"]
        for problem in misspelt_variables("K2_", [*map(str.upper, Platform.model_fields), *_VARIABLES]):
            say(f"warning: {problem}")
        try:
            code = super().main(given, prog_name, complete_var, False, windows_expand_args, **extra)
        except (TyperException, InvalidSpec) as error:
            if not standalone_mode:
                raise
            say(describe(error, "k2 " + given[0] if given[0] in self.commands else "k2"))
            code = BAD_INPUT
        if standalone_mode:
            sys.exit(code or 0)
        return code


def describe(error: TyperException | InvalidSpec, command: str) -> str:
    """Return the error in one line, with the command that it concerns."""
    if isinstance(error, InvalidSpec):
        return str(error)
    message = error.format_message()
    if nearest := getattr(error, "possibilities", None):  # the library lists them alphabetically
        message = f"{error.message}; did you mean {nearest[0]}?"
    message = " ".join(message.split()).rstrip(".")
    for phrase, plain in _PHRASES.items():
        message = message.replace(phrase, plain)
    context = getattr(error, "ctx", None)
    command = context.command_path if context else command
    return f"{command}: {message[:1].lower()}{message[1:]}; see {command} --help"
