"""Histories whose callbacks run in asyncio's order: the even seeds."""

import pytest

from tests.simulation.seeds import check


@pytest.mark.parametrize("first", range(0, 200, 20))
def test_nothing_is_lost_doubled_or_unsaid(first):
    check(range(first, first + 20, 2))


@pytest.mark.slow
@pytest.mark.parametrize("first", range(200, 5200, 100))
def test_nothing_is_lost_doubled_or_unsaid_in_many_histories(first):
    check(range(first, first + 100, 2))
