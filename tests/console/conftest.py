"""The console of a real server over real tables, in a real browser."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from k2.cli.embedded.layout import Layout
from tests.console.browser import PROGRAM, Page, browser
from tests.console.lake import Lake, now
from tests.console.serving import serving


@pytest.fixture(scope="session")
def filled() -> datetime:
    """When the tables were filled; their newest trade is a little older."""
    return now().astimezone(UTC)


@pytest.fixture(scope="session")
def lake(tmp_path_factory: pytest.TempPathFactory, filled: datetime) -> Lake:
    filled_lake = Lake(Layout.at(tmp_path_factory.mktemp("console") / "data"))
    filled_lake.fill(filled)
    return filled_lake


@pytest.fixture(scope="session")
def console(lake: Lake) -> Iterator[str]:
    """The console's address."""
    with serving(lake.layout.platform()) as url:
        yield f"{url}/console/"


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """One browser for all tests: it takes seconds to start."""
    if not PROGRAM:
        pytest.skip("there is no Chromium in PATH")
    folder = tmp_path_factory.mktemp("chromium")
    with browser(folder) as page:
        yield page


@pytest.fixture
def page(chromium: Page) -> Iterator[Page]:
    """A page that nobody was on before. After it, nothing may have been thrown or been refused."""
    chromium.errors.clear()
    chromium.scheme("light")
    yield chromium
    chromium.run("new Promise((done) => setTimeout(done, 50))")
    errors = list(chromium.errors)
    chromium.run("localStorage.clear(); sessionStorage.clear()")
    chromium.open("data:text/html,")
    assert errors == []
