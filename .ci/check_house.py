"""House rules that no linter knows: flat packages and private dialect. `make check` runs it.

A folder holds at most 15 modules. Identifiers, docstrings and comments use the standard terms of the field; the words
below stand for a term that is more precise.
"""

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

MOST_MODULES: Final = 15
# The word, and what to write instead.
WORDS: Final = {
    "anew": "again, rebuild, recreate",
    "told": "reported, notified, configured",
    "retold": "replayed",
    "mischief": "fault",
    "hopeless": "terminal",
    "mixture": "plan",
    "stretch": "time_range, range",
    "stretches": "time_ranges, ranges",
    "hole": "gap",
    "holes": "gaps",
    "bury": "append_dead_letters",
    "buried": "dead-lettered",
    "stranger": "unknown client, other origin",
    "strangers": "unknown clients, other origins",
    "nonsense": "malformed",
    "colleague": "another manager, manual edit",
    "colleagues": "other managers, manual edits",
}
# As a whole name of a variable: say what it holds.
VARIABLES: Final = frozenset({"found", "told", "known", "held", "kept", "seen", "wanted"})
# Inside identifiers only; in prose they are ordinary English.
PARTS: Final = frozenset({"wanted", "letters", "letter", "lasting", "whoever"})
ALLOWED: Final = re.compile(r"dead_?letters?", re.IGNORECASE)


def main() -> int:
    """Print every departure; return 1 if there is one."""
    files = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "*.py"], check=True, stdout=subprocess.PIPE, text=True
    ).stdout.split()
    paths = [path for path in map(Path, files) if path.exists() and path.name != Path(__file__).name]
    problems = [*_flat(paths)]
    for path in paths:
        problems += _dialect(path)
    for problem in problems:
        print(problem)
    return int(bool(problems))


def _flat(paths: list[Path]) -> Iterator[str]:
    modules = Counter(path.parent for path in paths if path.name != "__init__.py")
    for folder, count in sorted(modules.items()):
        if count > MOST_MODULES:
            yield f"{folder}: {count} modules; group them into sub-packages of at most {MOST_MODULES}"


def _dialect(path: Path) -> Iterator[str]:
    text = path.read_text("utf-8")
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        line = token.start[0]
        if token.type == tokenize.NAME:
            yield from _identifier(path, line, token.string)
        elif token.type == tokenize.COMMENT:
            yield from _prose(path, line, token.string)
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.arg):
            name = node.id if isinstance(node, ast.Name) else node.arg
            if name in VARIABLES:
                yield f"{path}:{node.lineno}: variable {name!r}; name what it holds"
        elif isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _prose(path, getattr(node, "lineno", 1), ast.get_docstring(node, clean=False) or "")


def _identifier(path: Path, line: int, name: str) -> Iterator[str]:
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", ALLOWED.sub("", name))
    for word in {word.lower() for word in words} - {name}:
        if word in WORDS or word in PARTS:
            yield f"{path}:{line}: {name}: {word!r}; write {WORDS.get(word, 'the standard term')}"
    if name in WORDS:
        yield f"{path}:{line}: {name}; write {WORDS[name]}"


def _prose(path: Path, line: int, text: str) -> Iterator[str]:
    for word in sorted({word.lower() for word in re.findall(r"[A-Za-z]+", text)} & set(WORDS)):
        yield f"{path}:{line}: {word!r} in a docstring or comment; write {WORDS[word]}"


if __name__ == "__main__":
    sys.exit(main())
