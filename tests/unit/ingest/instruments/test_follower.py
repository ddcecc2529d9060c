"""The list over REST from a simulated exchange, its versions in Kafka, and starts without REST."""

import asyncio
import time

import pytest

from k2.common.kafka_connection import KafkaConnection
from k2.common.registry_connection import RegistryConnection
from k2.common.schema_registry import Registry, SchemaCache
from k2.ingest.backfill.rest import RestClient
from k2.ingest.exchanges import rest_answers
from k2.ingest.exchanges.base import Limits, RestBudget
from k2.ingest.instruments.directory import Directory
from k2.ingest.instruments.follower import Follower, ListUnreadable
from k2.ingest.kafka.instruments import InstrumentTopic
from k2.ingest.kafka.publisher import Publisher
from k2.ingest.network.client import open_client
from k2.ingest.network.limits import AddressLimits
from k2.ingest.sequencing.ledger import utc_micros
from k2.ingest.simulator.faults import parse
from k2.ingest.telemetry.stats import Stats
from k2.schemas import topics
from k2.schemas.channels import TRADES
from k2.schemas.codecs import avro
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.records.instrument import AVRO, InstrumentStatus

TRADING, DELISTED = InstrumentStatus.TRADING, InstrumentStatus.DELISTED


class Process:
    """What a process of the ingest has of instruments."""

    def __init__(self, broker, names, registry_url: str, http, exchange: str, rest: str) -> None:
        self.stats = Stats(started_at=time.monotonic())
        self.publisher = Publisher(KafkaConnection(broker.bootstrap), TRADES, names, "spot", 1, self.stats)
        registry, subject = Registry(RegistryConnection(registry_url)), topics.subject(names.instruments)
        schema_id = registry.register(subject, avro.text(AVRO))
        self.archive = InstrumentTopic(
            KafkaConnection(broker.bootstrap),
            names.instruments,
            self.publisher,
            schema_id,
            SchemaCache(registry, subject).schemas,
        )
        self.listings: dict[str, int] = {}
        self.directory = Directory(EXCHANGES[exchange])
        client = RestClient(http, rest, AddressLimits(RestBudget(1000, 1000), Limits()), rest_answers(exchange))
        self.follower = Follower(
            exchange, self.directory, client.fetch_once, self.archive, self.stats, utc_micros, self.listings,
            every=0.1, retry=0.1,
        )  # fmt: skip

    async def published(self) -> list[tuple[str, InstrumentStatus]]:
        """Every version in the topic, as a process that starts now reads them."""
        assert await self.publisher.close(5) == 0
        self.archive._next_offsets.clear()
        return [(each.instrument.raw_symbol, each.instrument.status) for each in await self.archive.recall()]


@pytest.fixture
async def process(broker, names, registry_url):
    async with open_client() as http:
        yield lambda exchange, rest: Process(broker, names, registry_url, http, exchange, rest)


@pytest.mark.parametrize("exchange", EXCHANGES)
async def test_each_version_is_published_once_by_however_many_processes(exchange, simulate, process):
    simulator = await simulate(exchange, rate=1)
    rest = f"http://127.0.0.1:{simulator.port}"
    first = process(exchange, rest)
    await first.follower.start()
    versions = await first.published()
    assert sorted(versions) == sorted((name, TRADING) for name in simulator.venue.default_symbols)
    second = process(exchange, rest)
    await second.follower.start()
    assert await second.published() == versions
    assert second.stats.list_cached is False
    assert abs(second.stats.list_read_at / 1e6 - time.time()) < 20


async def test_a_change_of_the_list_is_published_and_reported(simulate, process, eventually):
    simulator = await simulate("okx", rate=1)
    running = process("okx", f"http://127.0.0.1:{simulator.port}")
    await running.follower.start()
    following = asyncio.create_task(running.follower.run())
    simulator.inject(parse("delist=ETH-USDT"))
    await eventually(lambda: running.directory.trading("ETH-USDT") is False)
    simulator.inject(parse("list=S-TRY"))
    await eventually(lambda: running.directory.trading("S-TRY"))
    following.cancel()
    assert running.directory.version == 3
    assert (await running.published())[-2:] == [("ETH-USDT", DELISTED), ("S-TRY", TRADING)]


async def test_a_listing_that_begins_is_published_with_its_number(simulate, process, eventually):
    simulator = await simulate("okx", rate=1)
    running = process("okx", f"http://127.0.0.1:{simulator.port}")
    await running.follower.start()
    following = asyncio.create_task(running.follower.run())
    running.listings["BTCUSDT"] = 2
    await eventually(lambda: running.directory.version == 2)
    following.cancel()
    await running.published()
    running.archive._next_offsets.clear()
    newest = (await running.archive.recall())[-1].instrument
    assert (newest.raw_symbol, newest.listing) == ("BTC-USDT", 2)


async def test_what_binance_pauses_is_halted_and_not_refused(simulate, process, eventually):
    simulator = await simulate("binance", symbols=["STRY:S:TRY", "BTCAEUR:BTCA:EUR"], rate=1)
    running = process("binance", f"http://127.0.0.1:{simulator.port}")
    await running.follower.start()
    simulator.inject(parse("halt=STRY"))
    await eventually(lambda: not simulator._faults._scheduled)
    await running.follower._read()
    assert running.directory.trading("STRY") is None
    pairs = {each.raw_symbol: each.pair for each in running.directory.instruments()}
    assert (pairs["STRY"].base, pairs["STRY"].quote) == ("S", "TRY")
    assert (pairs["BTCAEUR"].base, pairs["BTCAEUR"].quote) == ("BTCA", "EUR")


async def test_without_rest_the_published_list_is_used_and_its_age_shown(simulate, process):
    simulator = await simulate("kraken", rate=1)
    first = process("kraken", f"http://127.0.0.1:{simulator.port}")
    await first.follower.start()
    await first.published()
    second = process("kraken", "http://127.0.0.1:1")
    await second.follower.start()
    assert second.directory.trading("BTC/USD") is True
    assert second.stats.list_cached is True
    assert second.stats.list_read_at == first.stats.list_read_at
    assert "http://127.0.0.1:1/0/public/AssetPairs" in second.stats.list_error
    assert second.stats.errors["instruments"] == 1


async def test_without_rest_and_without_a_published_list_there_is_no_start(process):
    with pytest.raises(ListUnreadable, match=r"the instrument list of okx cannot be read: http://127\.0\.0\.1:1"):
        await process("okx", "http://127.0.0.1:1").follower.start()


async def test_errors_of_the_exchange_keep_the_list(simulate, process, eventually):
    simulator = await simulate("bybit", rate=1)
    running = process("bybit", f"http://127.0.0.1:{simulator.port}")
    await running.follower.start()
    simulator.inject(parse("unavailable=1"))
    await eventually(lambda: not simulator._faults._scheduled)
    await running.follower._read()
    assert "503" in running.stats.list_error
    assert running.directory.trading("BTCUSDT") is True
    assert running.directory.version == 1
    await running.follower._read()
    assert running.stats.list_error == ""
