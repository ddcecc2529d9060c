"""The commands and the code of docs/how-to/books.md run as printed."""

import re
import shlex
from pathlib import Path
from random import Random
from typing import Any

import pytest
from typer.testing import CliRunner

from k2.cli.embedded.layout import Layout
from k2.cli.main import app
from k2.schemas.tables import GOLD_BOOK_TABLE
from tests.unit.query.api.conftest import running
from tests.unit.query.book.exchange import Exchange
from tests.unit.query.book.test_reader import row
from tests.unit.query.conftest import Append
from tests.unit.query.quotes import quote, store

__all__ = ["running"]

PAGE = (Path(__file__).parents[4] / "docs" / "how-to" / "books.md").read_text("utf-8")


@pytest.fixture
def stored(layout: Layout, append: Append) -> Layout:
    store(layout, [quote(number, number) for number in range(200)])
    store(layout, [row(each) for each in Exchange(Random(4), 50).rows("a", {0}, ())], GOLD_BOOK_TABLE)
    return layout


def test_the_commands_of_the_page_run(stored: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"^```console\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    commands = [shlex.split(line)[2:] for line in block.splitlines()]
    assert len(commands) == 5
    for words in commands:
        result = CliRunner().invoke(app, [*words, "--data", str(stored.root)])
        assert result.exit_code == 0, result.stderr
    assert (tmp_path / "books.arrow").stat().st_size > 1000


def test_the_python_code_of_the_page_runs(stored: Layout, running: Any) -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {"url": running()}
    exec(compile(block, "books.md", "exec"), names)
    assert [names[name].num_rows for name in ("quotes", "book", "minute")] == [100, 1, 60]
    assert len(names["book"].column("bids")[0]) <= 5
