"""The page on capability levels: every line names a test, and every test that it names exists."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs/reference/capabilities.md"
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def functions_in(path: Path) -> set[str]:
    """Return the names of the test functions of a file, without importing it."""
    parsed = ast.parse(path.read_text("utf-8"))
    functions = (node for node in parsed.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return {function.name for function in functions}


def test_every_line_names_a_test_that_exists():
    lines = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| ")]
    lines = [line for line in lines if not line.startswith("| What |")]
    assert len(lines) > 20
    for line in lines:
        (named,) = NAMED.findall(line)
        path, function = named
        assert function in functions_in(ROOT / path), line


def test_every_level_has_lines():
    levels = re.split(r"^## (.+)$", PAGE.read_text("utf-8"), flags=re.MULTILINE)[1:]
    named = {title: len(NAMED.findall(text)) for title, text in zip(levels[::2], levels[1::2], strict=True)}
    assert [title.partition(":")[0] for title in named] == ["I", "II", "III", "IV", "V"]
    assert all(named.values())
