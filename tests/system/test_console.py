"""The console beside a real broker: trades as they come, each once, and on again after a server that was gone."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from k2.schemas.records.trade import Trade
from tests.console.browser import PROGRAM, Page, browser
from tests.console.serving import serving
from tests.spark.builders import trade
from tests.system.lab import Lab

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]
LIVE = "document.querySelector('#live').dataset.state === 'live'"
IDS = "[...document.querySelectorAll('#tape tr')].map((row) => row.title.split(' ')[1])"


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    if not PROGRAM:
        pytest.skip("there is no Chromium in PATH")
    with browser(tmp_path / "browser") as opened:
        yield opened


def at(now: int, number: int) -> Trade:
    """A trade of this moment."""
    return trade(number, timestamp=now, ingestion_timestamp=now)


def test_trades_are_shown_as_they_come_each_once(lab: Lab, page: Page):
    now = int(datetime.now(UTC).timestamp() * 1e6) - 2_000_000
    lab.send(at(now, 1), at(now + 1000, 2))
    lab.commit([at(now, 1)], {0: 1})
    with serving(lab.platform) as url:
        page.open(f"{url}/console/#market/BINANCE/BTCUSDT")
        page.until(f"{LIVE} && {IDS}.length === 2")
        lab.send(at(now + 2000, 3), at(now + 2000, 3), at(now + 1000, 2), at(now + 3000, 4))
        page.until(f"{IDS}.includes('4')")
        assert page.run(IDS) == ["4", "3", "2", "1"]
        assert page.text("#live") == "live"
    assert page.errors == []
