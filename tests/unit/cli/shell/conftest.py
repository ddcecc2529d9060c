"""The lake of the queries' tests, for the shell over it."""

from tests.unit.query.conftest import append, layout

__all__ = ["append", "layout"]
