"""Random statements change no file, and each has rows or one line."""

import re
from random import Random

import pytest

from k2.cli.embedded.layout import Layout
from k2.query.engine import Engine
from k2.query.errors import BadQuery
from tests.unit.query.conftest import Append, trade
from tests.unit.query.sql.cage.grammar import statement
from tests.unit.query.sql.cage.test_statements import digests

# A parser that accepts what it should not would let these run; none may, wherever it stands outside of a text.
_NEVER = re.compile(
    r"\b(COPY|INSERT|DELETE|UPDATE|DROP|ATTACH|EXPORT|SET|PRAGMA|INSTALL|CREATE|CALL)\b [^']*", re.IGNORECASE
)


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
def test_random_statements_change_no_file(engine: Engine, append: Append, layout: Layout, count: int) -> None:
    append([trade(number, number) for number in range(100)])
    before = digests(layout.root)
    rng, ran, answers = Random(count), 0, list[str]()
    for _ in range(count):
        text = statement(rng, str(layout.root))
        try:
            rows = engine.sql(text)
        except BadQuery as error:
            answers.append(str(error))
        else:
            ran += 1
            assert not _NEVER.search(text), text
            assert str(layout.root) not in str(rows.slice(0, 100).to_pylist()), text
    assert digests(layout.root) == before
    assert all("\n" not in answer and len(answer) < 1000 for answer in answers)
    assert ran > count / 10  # the grammar still writes statements that run
