"""Complete keywords, tables, columns and commands in the shell."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from k2.query.sql.cage.diagnosis.refusals import KEYWORDS

COMMANDS: Final = ("\\d", "\\format", "\\pager", "\\q", "\\timing", "\\?")
_FUNCTIONS: Final = (
    "count sum avg min max first last median arg_max date_trunc time_bucket now epoch_ms list_transform row_number lag"
).split()
_WORD: Final = re.compile(r"\\?\w*$")
_AFTER_TABLE_WORD: Final = re.compile(r"\b(?:from|join|describe|summarize|pivot|show|\\d)\s+\w*$", re.IGNORECASE)


class SqlCompleter(Completer):
    """Offer what begins with the word before the cursor: tables where one follows, else columns first.

    Args:
        tables: Return the columns of each table, by name; called once, with the first key.

    """

    def __init__(self, tables: Callable[[], Mapping[str, Iterable[str]]]) -> None:
        self._load = tables
        self._tables: Mapping[str, Iterable[str]] | None = None

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """Yield the completions of the word before the cursor."""
        before = document.text_before_cursor
        match = _WORD.search(before)
        word = match[0] if match else ""
        if self._tables is None:
            self._tables = self._load()
        if not word and not _AFTER_TABLE_WORD.search(before):
            return
        for candidate in self._candidates(before):
            if candidate.lower().startswith(word.lower()):
                yield Completion(candidate.lower() if word.islower() else candidate, start_position=-len(word))

    def _candidates(self, before: str) -> Iterable[str]:
        tables = self._tables or {}
        if _AFTER_TABLE_WORD.search(before):
            return sorted(tables)
        named = {name for name in re.findall(r"\w+", before) if name in tables} or tables
        columns = {column for name in named for column in tables[name]}
        commands = COMMANDS if before.lstrip().startswith("\\") else ()
        return [*commands, *sorted(columns), *sorted(tables), *KEYWORDS, *_FUNCTIONS]
