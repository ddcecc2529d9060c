"""The web console, driven in Chromium."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from random import Random

import pytest

from k2.query.api.keys import Scope, add
from k2.query.live import record_json
from k2.schemas.channels import BOOK
from k2.schemas.tables import GOLD_TABLE
from k2.schemas.values import scaled
from tests.console.browser import Page
from tests.console.lake import FRAME, HOURS, MARKETS, Lake, trade
from tests.console.serving import serving
from tests.unit.query.book.exchange import STEP, Exchange
from tests.unit.query.conftest import NOON
from tests.unit.query.live.test_opening import row

pytestmark = pytest.mark.timeout(600)

BARS = "Number(document.querySelector('#chart')?.dataset.bars)"
PRICE = "document.querySelector('#price')?.dataset.value"
SOLANA = MARKETS[2]


def market(page: Page, console: str, address: str = "BINANCE/BTCUSDT") -> None:
    """Open a symbol and wait until it is drawn."""
    page.open(f"{console}#market/{address}")
    page.until(f"{BARS} > 5 && {PRICE}")


def test_bars_and_trades_of_a_symbol_are_those_of_gold(page: Page, console: str):
    market(page, console, "KRAKEN/BTCUSD")
    trades = page.run(
        "fetch('../v1/trades?symbol=BTCUSD&exchange=kraken&limit=80').then((response) => response.json())"
    )["data"]
    assert Decimal(page.run(PRICE)) == Decimal(trades[-1]["price"])
    shown = page.run("[...document.querySelectorAll('#tape tr')].map((row) => row.title.split(' ')[1])")
    assert shown == [row["trade_id"] for row in reversed(trades)]
    assert page.text("h1") == "BTCUSD KRAKEN"
    assert page.run(BARS) > 300


def test_a_new_trade_appears_without_a_reload(page: Page, console: str, lake: Lake):
    market(page, console, "BINANCE/SOLUSDT")
    lake.append(GOLD_TABLE, [trade(SOLANA, 9_000_001, datetime.now(UTC), 151.37, 2.5)])
    page.until(f"{PRICE} === '151.37'")
    assert page.text("#price") == "151.37"
    assert "151.37" in page.text("#tape tr")


def test_long_numbers_are_aligned_and_not_truncated(page: Page, console: str, lake: Lake):
    market(page, console, "BINANCE/ETHUSDT")
    exact = {"price": Decimal("3123.45670001"), "quantity": Decimal("1234567.12345678")}
    lake.append(GOLD_TABLE, [trade(MARKETS[1], 9_000_002, datetime.now(UTC), 1, 1) | exact])
    page.until(f"{PRICE} === '3123.45670001'")
    rows = page.run(
        "[...document.querySelectorAll('#tape tr')].map((row) => [...row.cells].map((cell) => cell.textContent))"
    )
    assert rows[0][1:] == ["3,123.45670001", "1,234,567.12345678"]
    assert {(len(price.split(".")[1]), len(quantity.split(".")[1])) for _, price, quantity in rows} == {(8, 8)}
    assert page.run("(({ scrollWidth, clientWidth }) => scrollWidth <= clientWidth)(document.querySelector('.trades'))")
    assert page.run("document.documentElement.scrollWidth <= innerWidth")


def test_older_bars_load_when_the_chart_is_scrolled_back(page: Page, console: str):
    market(page, console, "COINBASE/ETHUSD")
    before = page.run(BARS)
    page.run("document.querySelector('#chart').focus()")
    for _ in range(8):
        page.press("ArrowLeft")
        page.run("new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
    page.until(f"{BARS} > {before + 60}")


def test_a_longer_interval_has_fewer_bars_and_is_remembered(page: Page, console: str):
    market(page, console)
    page.press("i", "i")
    page.until(
        f"document.querySelector('[data-interval=\"15m\"]').getAttribute('aria-pressed') === 'true' && {BARS} > 5"
    )
    assert page.until(f"{BARS} < 60 && {BARS}") >= 32
    market(page, console)
    assert page.run("document.querySelector('[aria-pressed=true]').dataset.interval") == "15m"


def test_a_symbol_can_be_selected_by_keyboard(page: Page, console: str):
    market(page, console)
    page.press("/")
    page.send("Input.insertText", text="eth coin")
    page.press("ArrowDown", "Enter")
    page.until("document.querySelector('h1').innerText === 'ETHUSD COINBASE'")
    assert page.run("location.hash") == "#market/COINBASE/ETHUSD"
    page.press("Home", "ArrowDown")
    assert page.run("document.activeElement.dataset.id") == "COINBASE/ETHUSD"  # the others are hidden


def test_the_map_shows_each_hour_and_its_missing_ids(page: Page, console: str):
    page.open(f"{console}#completeness")
    page.until("document.querySelectorAll('#map [data-state=complete]').length")
    states = page.run(
        "Object.fromEntries(['complete', 'repaired', 'missing', 'open'].map((state) => "
        "[state, document.querySelectorAll(`#map [data-state=${state}]`).length]))"
    )
    rows = page.run("fetch('../v1/completeness').then((response) => response.json())")["data"]
    counted = {state: sum(row["state"] == state for row in rows) for state in states}
    assert states == counted
    assert min(counted.values()) > 0
    page.run("document.querySelector('#map [data-state=missing]').click()")
    page.until("document.activeElement.dataset.state === 'missing'")
    assert "12" in page.text("#detail")
    assert "missing ids" in page.text("#detail")
    before = page.run("document.activeElement.getAttribute('aria-label')")
    page.press("ArrowRight")
    assert page.run("document.activeElement.getAttribute('aria-label')") != before
    page.press("ArrowLeft")
    assert page.run("document.activeElement.getAttribute('aria-label')") == before


def test_layers_and_gaps_are_shown(page: Page, console: str):
    page.open(f"{console}#layers")
    page.until("document.querySelectorAll('#layers tbody tr').length >= 12")
    assert "gold" in page.text("#layers")
    page.press("4")
    page.until("document.querySelectorAll('#gaps tbody tr').length === 11")
    page.run("document.querySelector('[data-only=unrecoverable]').click()")
    page.until("document.querySelectorAll('#gaps tbody tr').length === 1")
    assert "older than the exchange keeps" in page.text("#gaps")


def test_a_dead_letter_is_shown_raw_and_never_as_markup(page: Page, console: str):
    page.open(f"{console}#dead-letters")
    page.until("document.querySelectorAll('#dead-letters tr[tabindex]').length === 2")
    page.run("document.querySelector('#dead-letters tr[tabindex]').focus()")
    page.press("Enter")
    page.until("document.querySelector('#frame pre')")
    assert page.text("#frame pre") == FRAME
    assert page.run("document.querySelector('#frame b')") is None
    page.press("ArrowDown", "Enter")
    page.until("document.querySelector('#frame pre').innerText.startsWith('000000')")
    assert page.text("#frame pre").splitlines()[0].startswith("000000  00 01 02 03")


def test_dark_and_light_follow_the_system_until_one_is_chosen(page: Page, console: str):
    def dark() -> bool:
        return page.run("getComputedStyle(document.documentElement).colorScheme") == "dark"

    page.scheme("dark")
    page.open(f"{console}#gaps")
    assert dark()
    page.scheme("light")
    page.until("getComputedStyle(document.documentElement).colorScheme === 'light'")
    page.press("d")
    assert dark()
    page.open(f"{console}?again")
    page.until("document.querySelector('#tabs a')")
    assert dark()


def test_shortcuts_are_listed(page: Page, console: str):
    page.open(f"{console}#gaps")
    page.until("document.querySelector('#tabs a')")
    page.press("?")
    page.until("document.querySelector('#shortcuts').open")
    assert "find a symbol" in page.text("#shortcuts")


def test_all_resources_come_from_this_server(page: Page, console: str):
    market(page, console)
    loaded = page.run("performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert any(name.endswith("/lightweight-charts.js") for name in loaded)
    assert {name.split("/")[2] for name in loaded} == {console.split("/")[2]}


def test_a_server_with_keys_asks_for_one_and_forgets_it_with_the_tab(page: Page, lake: Lake, tmp_path: Path):
    file = tmp_path / "keys.yaml"
    key = add(file, "desk", [Scope.READ, Scope.STREAM])
    with serving(lake.layout.platform(), keys=file) as url:
        page.open(f"{url}/console/#gaps")
        page.until("document.querySelector('#keys').open")
        page.send("Input.insertText", text="k2_wrong")
        page.press("Enter")
        page.until(
            "document.querySelector('#keys').open && /Unknown API key/.test(document.querySelector('#keys').innerText)"
        )
        page.run("document.querySelector('#token').value = ''")
        page.send("Input.insertText", text=key)
        page.press("Enter")
        page.until("document.querySelectorAll('#gaps tbody tr').length === 11")
        assert page.run("sessionStorage.getItem('k2-key')") == key
        assert key not in page.run("JSON.stringify(localStorage) + document.cookie + location.href")
        page.run("localStorage.clear(); sessionStorage.clear()")


def test_an_unreachable_server_is_reported(page: Page, lake: Lake):
    with serving(lake.layout.platform()) as url:
        page.open(f"{url}/console/#gaps")
        page.until("document.querySelectorAll('#gaps tbody tr').length === 11")
    page.until("!document.querySelector('#problem').hidden", within=60)
    assert page.text("#problem") == "the server cannot be reached"


def test_without_trades_the_console_says_so(page: Page, tmp_path: Path):
    from k2.cli.embedded.layout import Layout

    empty = Lake(Layout.at(tmp_path / "empty"))
    empty.append(GOLD_TABLE, [])
    with serving(empty.layout.platform()) as url:
        page.open(f"{url}/console/")
        page.until("document.querySelector('#chart').dataset.empty")
        page.press("2")
        page.until("document.querySelector('#map')?.innerText.includes('has been audited')")
        page.press("5")
        page.until("document.querySelector('#dead-letters')?.innerText.includes('No rejected records')")
        page.press("1")
        page.until("document.querySelector('#chart').dataset.empty")
        empty.append(GOLD_TABLE, [trade(SOLANA, 1, datetime.now(UTC), 151.37, 2.5)])
        page.until("document.querySelector('#symbols li')", within=50)  # a full list waits a minute
        page.until(f"{PRICE} === '151.37'")


def test_a_failed_load_is_retried_until_the_server_is_back(page: Page, lake: Lake):
    with serving(lake.layout.platform()) as url:
        market(page, f"{url}/console/")
        page.send(
            "Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=-1, uploadThroughput=-1
        )
        page.run("location.hash = '#market/COINBASE/ETHUSD'")
        page.until("document.title.startsWith('ETHUSD') && document.querySelector('#problem').innerText")
        assert page.text("#problem") == "the server cannot be reached"
        assert not page.text("#tape")
        page.send(
            "Network.emulateNetworkConditions", offline=False, latency=0, downloadThroughput=-1, uploadThroughput=-1
        )
        page.until(f"{BARS} > 5 && {PRICE} && document.querySelector('#problem').hidden")


def test_hours_without_trades_are_blank_and_not_complete(page: Page, console: str):
    page.open(f"{console}#completeness")
    page.until("document.querySelectorAll('#map [data-state=complete]').length")
    blank = page.run("document.querySelectorAll('#map [role=gridcell]:not([data-state])').length")
    assert blank == len(MARKETS) * (3 * 24 - HOURS)


def test_a_book_is_a_ladder_and_its_hours_are_judged_by_seconds(page: Page, console: str):
    page.open(f"{console}#book/BINANCE/BTCUSDT")
    page.until("document.querySelectorAll('#ladder tr[data-side]').length === 24")
    (book,) = page.run(
        "fetch('../v1/book?symbol=BTCUSDT&exchange=binance&depth=12').then((response) => response.json())"
    )["data"]
    rows = page.run(
        "[...document.querySelectorAll('#ladder tr[data-side]')]"
        ".map((row) => [...row.cells].map((cell) => cell.textContent.replaceAll(',', '')))"
    )
    levels = [*reversed(book["asks"]), *book["bids"]]
    assert [[Decimal(text) for text in row[:2]] for row in rows] == [
        [Decimal(level["price"]), Decimal(level["quantity"])] for level in levels
    ]
    assert Decimal(rows[0][2]) == sum(Decimal(level["quantity"]) for level in book["asks"])
    assert (page.text("#verdict"), page.text("#spread")[:24]) == (book["verdict"], "spread 0.10 · 0.02 bp · ")
    page.until("Number(document.querySelector('#lines').dataset.points) > 100")

    exchange = Exchange(Random(3), 40)
    events = [record_json.fields(BOOK, row(each)) for each in exchange.rows("a", {0, 21}, ())]
    shown = page.run(
        "import('./books.js').then(({ liveBooks }) => { const books = liveBooks(); "
        f"for (const event of {json.dumps(events + events[5:9])}) books.add(event); return books.best(20); }})"
    )
    sides = [
        [(scaled(level["price"]), scaled(level["quantity"])) for level in shown[side]] for side in ("bids", "asks")
    ]
    assert tuple(map(tuple, sides)) == exchange.truth(NOON + 40 * STEP)
    assert shown["verdict"] == "verified"

    page.press("2")
    page.until("document.querySelectorAll('#map [data-state=complete]').length")
    page.run("document.querySelector('[data-channel=book]').click()")
    page.until("document.querySelectorAll('#map [data-state=missing]').length === 1")
    assert page.run("document.querySelectorAll('#map [data-state=complete]').length") == 11
    page.run("document.querySelector('#map [data-state=missing]').click()")
    assert "verified 3,575, suspect 25, silence 1" in page.text("#detail")
