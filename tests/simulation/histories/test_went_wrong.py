"""Histories that went wrong once, each for the reason that its name says, while histories are drawn as they are now."""

import pytest

from tests.simulation.seeds import check


@pytest.mark.parametrize(
    "seed",
    [
        pytest.param(399, id="a refusal of the connection that took over was forgotten, because the symbol had flowed"),
        pytest.param(1521, id="a symbol that was not listed while a connection took over was never subscribed again"),
        pytest.param(2099, id="rows that an earlier window's page brought proved a later window complete"),
        pytest.param(4389, id="maintenance was counted from a clock that was wrong"),
    ],
)
def test_a_history_that_went_wrong_goes_well(seed):
    check([seed])
