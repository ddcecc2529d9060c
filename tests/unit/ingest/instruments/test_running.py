"""A whole shard and its exchange's list: true assets, symbols that are not listed, changes while it runs."""

import asyncio
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest
import yaml

from k2.common.platform import Platform
from k2.ingest import app
from k2.ingest.connection.session import Tuning
from k2.ingest.instruments import changes
from k2.ingest.simulator import listings
from k2.ingest.simulator.faults import parse
from k2.ingest.telemetry import server
from k2.ingest.telemetry.stats import Stats
from k2.schemas.codecs import avro
from k2.schemas.feed.model import API_VERSION, ExchangeFeed
from k2.schemas.states import SymbolState

TUNING = Tuning(backoff_first=0.1, backoff_limit=0.2)


@pytest.fixture(autouse=True)
def fast(monkeypatch, names):
    """Topics of this test only, and no waiting for a minute or an hour."""
    for kind in ("gaps", "dead_letters", "evidence", "instruments"):
        monkeypatch.setattr(f"k2.schemas.topics.{kind}", partial(_named, getattr(names, kind)))
    monkeypatch.setattr("k2.ingest.instruments.follower._EVERY", 0.2)
    monkeypatch.setattr("k2.ingest.instruments.changes._POLL", 0.1)
    monkeypatch.setattr("k2.ingest.connection.session._OVERSEE_EVERY", 0.1)


def _named(topic: str, _: str) -> str:
    return topic


class Running:
    """A shard of a feed as the ingest process runs it."""

    def __init__(self, broker, names, registry_url: str, folder: Path, exchange: str, port: int) -> None:
        self.broker, self.names, self.exchange, self.port = broker, names, exchange, port
        self.platform = Platform(kafka_bootstrap=broker.bootstrap, registry_url=registry_url)
        self.file = folder / "feed.yaml"
        self.stop = asyncio.Event()
        self.stats = Stats(started_at=0.0)

    def write(self, *symbols: str, selector: dict[str, object] | None = None) -> ExchangeFeed:
        """Write the feed's file."""
        endpoint = f"127.0.0.1:{self.port}"
        selected = {"symbolSelector": selector} if selector else {"symbols": list(symbols)}
        spec = {
            "exchange": self.exchange, **selected, "kafka": {"topic": self.names.records},
            "ingest": {"endpoints": [f"ws://{endpoint}"], "restEndpoint": f"http://{endpoint}"},
        }  # fmt: skip
        body = {"apiVersion": API_VERSION, "kind": "ExchangeFeed", "metadata": {"name": "spot"}, "spec": spec}
        self.file.write_text(yaml.safe_dump(body))
        return ExchangeFeed.from_body(body)

    def start(
        self, *symbols: str, tuning: Tuning = TUNING, selector: dict[str, object] | None = None
    ) -> asyncio.Task[int]:
        """Run until `stop` is set."""
        options = app.Options(feed_file=self.file, tuning=tuning)
        self.task = asyncio.create_task(
            app.run(self.write(*symbols, selector=selector), self.platform, options, self.stop)
        )
        return self.task

    def state(self, symbol: str) -> tuple[SymbolState, str]:
        """The state of a symbol's subscription, and why."""
        return self.stats.symbol_states.get(symbol, (SymbolState.PENDING, ""))

    def assets(self) -> set[tuple[str, str, str]]:
        """Symbol and assets of the stored trades."""
        records = [avro.decode(message.value()[5:]) for message in self.broker.read(self.names.records)]
        return {(each["symbol"], each["base_asset"], each["quote_currency"]) for each in records}


@pytest.fixture
async def run(broker, names, registry_url, tmp_path, monkeypatch):
    """Makes a shard whose statistics can be read; ends it with the test."""
    made: list[Running] = []

    def build(exchange: str, port: int) -> Running:
        running = Running(broker, names, registry_url, tmp_path, exchange, port)
        monkeypatch.setattr(app, "Stats", lambda **_: running.stats)
        made.append(running)
        return running

    yield build
    for running in made:
        running.stop.set()
        await asyncio.gather(running.task, return_exceptions=True)


@pytest.mark.parametrize(
    ("exchange", "listed", "raw_symbol", "stored"),
    [
        ("binance", "BTCAEUR:BTCA:EUR", "BTCAEUR", ("BTCAEUR", "BTCA", "EUR")),
        ("binance", "STRY:S:TRY", "STRY", ("STRY", "S", "TRY")),
        ("bybit", "BTCRLUSD:BTC:RLUSD", "BTCRLUSD", ("BTCRLUSD", "BTC", "RLUSD")),
        ("kraken", "AAPLx/USD:AAPLx:USD", "AAPLx/USD", ("AAPLXUSD", "AAPLX", "USD")),
        ("kraken", "BTC/USD", "XBT/USD", ("BTCUSD", "BTC", "USD")),
    ],
)
async def test_trades_have_the_assets_of_the_list(run, simulate, eventually, exchange, listed, raw_symbol, stored):
    simulator = await simulate(exchange, symbols=[listed], rate=200)
    running = run(exchange, simulator.port)
    running.start(raw_symbol)
    await eventually(lambda: running.task.done() or sum(running.stats.delivered.values()) > 50)
    running.stop.set()
    assert await running.task == 0
    assert running.assets() == {stored}


async def test_a_symbol_that_is_not_listed_costs_no_other_and_trades_once_it_is_listed(run, simulate, eventually):
    simulator = await simulate("okx", symbols=["BTC-USDT"], rate=200)
    running = run("okx", simulator.port)
    running.start("BTC-USDT", "S-TRY")
    await eventually(lambda: running.state("BTCUSDT")[0] is SymbolState.FLOWING)
    state, reason = running.state("STRY")
    assert state is SymbolState.REFUSED
    assert reason.startswith("not listed")
    assert list(running.stats.refused) == ["S-TRY"]
    simulator.inject(parse("list=S-TRY"))
    await eventually(lambda: running.state("STRY")[0] is SymbolState.FLOWING)
    assert running.stats.reconnects == 0
    running.stop.set()
    assert await running.task == 0
    assert running.assets() == {("BTCUSDT", "BTC", "USDT"), ("STRY", "S", "TRY")}


async def test_symbols_of_the_file_change_subscriptions_on_the_open_connection(run, simulate, eventually):
    simulator = await simulate("binance", symbols=["BTCUSDT", "ETHUSDT", "SOLUSDT"], rate=300)
    running = run("binance", simulator.port)
    running.start("BTCUSDT", "ETHUSDT")
    await eventually(lambda: running.state("ETHUSDT")[0] is SymbolState.FLOWING)
    running.file.write_text("not: a feed")
    await asyncio.sleep(0.3)
    assert running.state("ETHUSDT")[0] is SymbolState.FLOWING
    running.write("BTCUSDT", "SOLUSDT")
    await eventually(lambda: running.state("SOLUSDT")[0] is SymbolState.FLOWING)
    assert set(running.stats.symbols) == {"BTCUSDT", "SOLUSDT"}
    assert (running.stats.connections, running.stats.reconnects) == (1, 0)
    running.write("BTCUSDT", "ETHUSDT", "SOLUSDT")
    await eventually(lambda: running.state("ETHUSDT")[0] is SymbolState.FLOWING)
    running.stop.set()
    assert await running.task == 0


async def test_a_symbol_added_later_goes_on_where_an_earlier_process_stopped(run, simulate, eventually, broker, names):
    simulator = await simulate("binance", symbols=["BTCUSDT", "ETHUSDT"], rate=300)
    first = run("binance", simulator.port)
    first.start("ETHUSDT")
    await eventually(lambda: sum(first.stats.delivered.values()) > 30)
    first.stop.set()
    await first.task
    second = run("binance", simulator.port)
    second.start("BTCUSDT")
    await eventually(lambda: second.state("BTCUSDT")[0] is SymbolState.FLOWING)
    second.write("BTCUSDT", "ETHUSDT")
    await eventually(lambda: second.state("ETHUSDT")[0] is SymbolState.FLOWING)
    await eventually(lambda: second.stats.gaps_repaired["ETHUSDT"])
    second.stop.set()
    await second.task
    records = [avro.decode(message.value()[5:]) for message in broker.read(names.records)]
    ids = {int(record["trade_id"]) for record in records if record["symbol"] == "ETHUSDT"}
    assert ids == set(range(min(ids), max(ids) + 1))


async def test_a_halt_is_shown_and_a_delisted_symbol_is_refused_once_it_is_silent(
    run, simulate, eventually, monkeypatch
):
    simulator = await simulate("okx", symbols=["BTC-USDT", "ETH-USDT"], rate=300)
    running = run("okx", simulator.port)
    running.start("BTC-USDT", "ETH-USDT", tuning=Tuning(backoff_first=0.1, backoff_limit=0.2, silence=0.5))
    await eventually(lambda: running.state("ETHUSDT")[0] is SymbolState.FLOWING)
    simulator.inject(parse("halt=ETH-USDT"))
    await eventually(lambda: running.stats.halted == ("ETH-USDT",))
    assert "ETH-USDT" not in running.stats.refused
    simulator.inject(parse("delist=ETH-USDT"))
    await eventually(lambda: running.state("ETHUSDT")[0] is SymbolState.REFUSED)
    await eventually(lambda: running.stats.refused.get("ETH-USDT", "").startswith("not listed"))
    assert running.stats.halted == ()
    assert running.state("BTCUSDT")[0] is SymbolState.FLOWING


async def test_a_selector_follows_the_list_and_says_what_it_leaves_out(run, simulate, eventually):
    simulator = await simulate("okx", symbols=["ETH-USDT", "SOL-USDT", "SOL-BTC"], rate=300)
    running = run("okx", simulator.port)
    running.start(selector={"quotes": ["USDT"], "maxSymbols": 2})
    await eventually(lambda: running.state("SOLUSDT")[0] is SymbolState.FLOWING)
    assert (running.stats.symbols, running.stats.matching) == (("ETHUSDT", "SOLUSDT"), 2)
    simulator.inject(parse("list=BTC-USDT"))
    await eventually(lambda: running.state("BTCUSDT")[0] is SymbolState.FLOWING)
    assert running.stats.symbols == ("BTCUSDT", "ETHUSDT")
    assert (running.stats.matching, running.stats.left_out) == (3, ("SOL-USDT",))
    simulator.inject(parse("delist=ETH-USDT"))
    await eventually(lambda: running.stats.symbols == ("BTCUSDT", "SOLUSDT"))
    await eventually(lambda: running.state("SOLUSDT")[0] is SymbolState.FLOWING)
    assert (running.stats.left_out, running.stats.reconnects) == ((), 0)


async def test_a_selector_that_matches_nothing_waits_for_a_listing(run, simulate, eventually):
    simulator = await simulate("okx", symbols=["ETH-USDT"], rate=300)
    running = run("okx", simulator.port)
    running.start(selector={"quotes": ["TRY"]})
    await eventually(lambda: running.stats.matching == 0)
    assert not running.stats.connected
    simulator.inject(parse("list=S-TRY"))
    await eventually(lambda: running.state("STRY")[0] is SymbolState.FLOWING)
    assert running.stats.connected


async def test_the_command_line_refuses_what_the_list_has_and_k2_cannot_record(run, simulate, monkeypatch):
    monkeypatch.setattr(listings, "tick_of", lambda pair: 1 if pair.base == "BTC" else 10**10)
    simulator = await simulate("coinbase", symbols=["BTC-USD", "ETH-USD"], rate=1)
    monkeypatch.setattr("k2.schemas.records.instrument.SMALLEST_STEP", Decimal("1E-11"))
    refused = run("coinbase", simulator.port)
    with pytest.raises(app.UnrecordableSymbols, match=r"remove these from spec\.symbols.*BTC-USD: its tick size"):
        await refused.start("BTC-USD", "ETH-USD", tuning=Tuning(max_attempts=1))


def test_status_shows_the_age_of_a_cached_list():
    stats = Stats(started_at=0.0, list_read_at=1_000_000, list_cached=True, list_error="no answer")
    status = server._instruments(stats)
    assert status.cached is True
    assert status.read_at == "1970-01-01T00:00:01+00:00"
    assert status.age_seconds > 1e9
    assert status.error == "no answer"
    assert server._instruments(Stats(started_at=0.0)).read_at is None


async def test_a_file_that_is_gone_changes_nothing(tmp_path):
    path = tmp_path / "feed.yaml"
    path.write_text("a: 1")
    file = changes.FeedFile(path)
    path.unlink()
    assert file.changed() is None
