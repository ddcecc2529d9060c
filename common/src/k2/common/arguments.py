"""The argument parser of every process but the `k2` command: errors are one line that says what to change."""

import argparse
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, NoReturn


class Parser(argparse.ArgumentParser):
    """An argument parser that exits with 2 and one line, with the nearest known option for an unknown one."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings, allow_abbrev=False)

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """Parse the arguments; unknown ones are an error."""
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.error(f"no such option: {unknown[0]}{self._suggestion(unknown[0])}")
        return parsed

    def error(self, message: str) -> NoReturn:
        """Print the error and exit with 2."""
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")

    def _suggestion(self, argument: str) -> str:
        names = [option.removeprefix("--") for action in self._actions for option in action.option_strings]
        nearest = get_close_matches(argument.partition("=")[0].removeprefix("--"), names, 1)
        return f"; did you mean --{nearest[0]}?" if nearest else ""
