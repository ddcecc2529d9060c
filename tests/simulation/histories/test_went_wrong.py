"""Histories that went wrong once, each for the reason that its name says, while histories are drawn as they are now."""

import pytest

from tests.simulation.seeds import check


@pytest.mark.parametrize(
    "seed",
    [
        pytest.param(399, id="a refusal of the connection that took over was forgotten, because the symbol had flowed"),
        pytest.param(1521, id="a symbol that was not listed while a connection took over was never subscribed again"),
        pytest.param(2099, id="rows that an earlier window's page brought proved a later window complete"),
        pytest.param(3432, id="a symbol whose frames were lost was rightly silent, but the judge took it for a lie"),
        pytest.param(4486, id="a symbol that had never traded and whose stream was dead was taken for quiet for ever"),
        pytest.param(4389, id="maintenance was counted from a clock that was wrong"),
        pytest.param(4604, id="a clock that was set back ended windows before what was missing from them"),
    ],
)
def test_a_history_that_went_wrong_goes_well(seed):
    check([seed])
