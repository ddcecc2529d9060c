"""A cage without a lake: processes of statements that read no table."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pyarrow as pa
import pytest

from k2.query.sql.cage.job import Job
from k2.query.sql.cage.limits import Limits
from k2.query.sql.cage.pool import Cage

Run = Callable[[str], pa.Table]


@pytest.fixture
def cages() -> Iterator[Callable[..., Cage]]:
    """Opens a cage with these limits, and closes it at the end."""
    with ExitStack() as stack:

        def opened(**limits: Any) -> Cage:
            defaults = {"memory": 300_000_000, "cpu_seconds": 60.0, "wall_seconds": 60.0}
            return stack.enter_context(closing(Cage(Limits(**defaults | limits), warm=1)))

        yield opened


def run(cage: Cage, statement: str) -> pa.Table:
    """Run a statement that no list has judged: the process alone must hold."""
    process = cage.process()
    process.parse(statement)
    return process.run(Job(statement)).read_all()
