"""One shard as a whole process wires it: registry, broker, exchange; stopped and started again."""

import asyncio
import contextlib
import json
import socket
from typing import Any

import pytest

from k2.common.platform import Platform
from k2.common.registry_connection import RegistryConnection
from k2.common.schema_registry import Registry
from k2.ingest import app
from k2.ingest.__main__ import _run
from k2.ingest.connection.session import Tuning
from k2.ingest.kafka.publisher import KafkaUnreachable
from k2.ingest.network.client import open_client
from k2.ingest.simulator.faults import parse
from k2.ingest.telemetry.stats import Stats
from k2.schemas import egress
from k2.schemas.channels import TRADES
from k2.schemas.codecs import avro
from k2.schemas.feed.model import API_VERSION, ExchangeFeed
from k2.schemas.formats import OtherFormat

TUNING = Tuning(max_attempts=3, backoff_first=0.1, backoff_limit=0.2)


def feed(
    names, endpoints: list[str], rest: str = "", exchange: str = "binance", symbol: str = "BTCUSDT"
) -> ExchangeFeed:
    spec = {
        "exchange": exchange, "symbols": [symbol], "kafka": {"topic": names.records},
        "ingest": {"endpoints": endpoints, "restEndpoint": rest},
    }  # fmt: skip
    return ExchangeFeed.from_body(
        {"apiVersion": API_VERSION, "kind": "ExchangeFeed", "metadata": {"name": "spot"}, "spec": spec}
    )


async def test_a_second_process_goes_on_where_the_first_stopped(
    simulate, broker, names, registry_url, eventually, monkeypatch
):
    monkeypatch.setattr("k2.schemas.topics.gaps", lambda _: names.gaps)
    monkeypatch.setattr("k2.schemas.topics.dead_letters", lambda _: names.dead_letters)
    monkeypatch.setattr("k2.schemas.topics.evidence", lambda _: names.evidence)
    monkeypatch.setattr("k2.schemas.topics.instruments", lambda _: names.instruments)
    simulator = await simulate("binance", symbols=["BTCUSDT"], rate=200)
    manifest = feed(names, [f"ws://127.0.0.1:{simulator.port}"], f"http://127.0.0.1:{simulator.port}")
    platform = Platform(kafka_bootstrap=broker.bootstrap, registry_url=registry_url)

    async def live(frames: int) -> None:
        stop, before = asyncio.Event(), simulator.counts["frames"]
        running = asyncio.create_task(app.run(manifest, platform, app.Options(tuning=TUNING), stop))
        await eventually(lambda: running.done() or simulator.counts["frames"] > before + frames)
        stop.set()
        assert await running == 0

    await live(100)
    simulator.inject(parse("drop=10"))
    await asyncio.sleep(0.3)
    await live(400)
    ids = [int(avro.decode(message.value()[5:])["trade_id"]) for message in broker.read(names.records)]
    assert len(set(ids)) == max(ids) - min(ids) + 1
    assert broker.read(names.gaps)


async def test_a_later_process_goes_on_in_the_listing_that_an_earlier_one_found(
    simulate, broker, names, registry_url, eventually, monkeypatch
):
    monkeypatch.setattr("k2.schemas.topics.gaps", lambda _: names.gaps)
    monkeypatch.setattr("k2.schemas.topics.dead_letters", lambda _: names.dead_letters)
    monkeypatch.setattr("k2.schemas.topics.evidence", lambda _: names.evidence)
    monkeypatch.setattr("k2.schemas.topics.instruments", lambda _: names.instruments)
    simulator = await simulate("binance", symbols=["BTCUSDT"], rate=300)
    manifest = feed(names, [f"ws://127.0.0.1:{simulator.port}"], f"http://127.0.0.1:{simulator.port}")
    platform = Platform(kafka_bootstrap=broker.bootstrap, registry_url=registry_url)
    for _ in range(2):
        stop, before = asyncio.Event(), simulator.counts["frames"]
        running = asyncio.create_task(app.run(manifest, platform, app.Options(tuning=TUNING), stop))
        await eventually(lambda: running.done() or simulator.counts["frames"] > before + 100)  # noqa: B023
        if simulator.history.trades["BTCUSDT"][-1].listing == 1:
            simulator.inject(parse("reset"))
            await eventually(lambda: simulator.history.newest("BTCUSDT", 1)[0].id in range(100, 1000))
        stop.set()
        assert await running == 0
    records = [avro.decode(message.value()[5:]) for message in broker.read(names.records)]
    second = sorted(int(record["trade_id"]) for record in records if record["vendor_data"].get("listing") == "2")
    assert second == list(range(1, len(second) + 1))
    assert len(second) > 100
    assert {record["vendor_data"].get("listing", "1") for record in records} == {"1", "2"}
    assert len({record["message_id"] for record in records}) == len(records)


async def test_the_status_shows_a_clock_that_is_off_and_the_trades_say_so(
    simulate, broker, names, registry_url, eventually, monkeypatch, tmp_path
):
    monkeypatch.setattr("k2.schemas.topics.gaps", lambda _: names.gaps)
    monkeypatch.setattr("k2.schemas.topics.dead_letters", lambda _: names.dead_letters)
    monkeypatch.setattr("k2.schemas.topics.evidence", lambda _: names.evidence)
    simulator = await simulate("binance", symbols=["BTCUSDT"], rate=200, faults=["clock=-5s"])
    manifest = feed(names, [f"ws://127.0.0.1:{simulator.port}"], f"http://127.0.0.1:{simulator.port}")
    platform = Platform(kafka_bootstrap=broker.bootstrap, registry_url=registry_url)
    sharing = tmp_path / "egress.json"
    sharing.write_text(egress.encode(3))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    stop = asyncio.Event()
    options = app.Options(port=port, egress=sharing, tuning=TUNING)
    running = asyncio.create_task(app.run(manifest, platform, options, stop))
    received: dict[str, Any] = {}

    async def clock_is_wrong() -> bool:
        async with open_client() as http:
            with contextlib.suppress(OSError):
                received.update(json.loads((await http.get(f"http://127.0.0.1:{port}/status", {})).body))
        return bool(received.get("clockWrong"))

    while not await clock_is_wrong():
        assert not running.done()
        await asyncio.sleep(0.1)
    assert received["clockOffsetSeconds"] == pytest.approx(5, abs=1)
    before = simulator.counts["frames"]
    await eventually(lambda: simulator.counts["frames"] > before + 100)
    stop.set()
    assert await running == 0
    last = avro.decode(broker.read(names.records)[-1].value()[5:])
    assert int(last["vendor_data"]["clock_offset_ms"]) == pytest.approx(5000, abs=1000)


FORMAT_1 = avro.text().replace('"k2.format": 2,', "").replace('"scale": 12', '"scale": 8')


@pytest.mark.parametrize(
    ("schema", "number"), [(FORMAT_1, 1), (avro.text().replace('"k2.format": 2', '"k2.format": 3'), 3)]
)
async def test_a_topic_of_another_format_is_refused_before_anything_is_registered(names, registry_url, schema, number):
    registry, subject = Registry(RegistryConnection(registry_url)), f"{names.records}-value"
    registry.register(subject, schema)
    platform = Platform(kafka_bootstrap="127.0.0.1:1", registry_url=registry_url)
    with pytest.raises(OtherFormat, match=rf"topic {names.records} has format {number}, and this version .* format 2"):
        await app.run(feed(names, ["ws://127.0.0.1:1"]), platform, app.Options(tuning=TUNING), asyncio.Event())
    assert registry.versions(subject) == [1]


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        (FORMAT_1, "has format 1, and this version of K2 reads and writes format 2; start with an empty data folder"),
        (avro.text().replace('"scale": 12', '"scale": 8'), "has decimals of another scale (price: scale 8, not 12)"),
    ],
)
def test_the_process_ends_with_2_and_one_line(schema, words, names, registry_url, capsys):
    Registry(RegistryConnection(registry_url)).register(f"{names.records}-value", schema)
    platform = Platform(kafka_bootstrap="127.0.0.1:1", registry_url=registry_url)
    assert _run(feed(names, ["ws://127.0.0.1:1"]), TRADES, platform, app.Options(tuning=TUNING)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("spot: ")
    assert words in line


@pytest.mark.usefixtures("no_waits")
async def test_a_registry_that_does_not_answer_ends_the_attempts(broker, names):
    platform = Platform(kafka_bootstrap=broker.bootstrap, registry_url="http://127.0.0.1:1")
    options = app.Options(tuning=Tuning(max_attempts=1))
    with pytest.raises(app.ServiceUnreachable, match=r"schema registry at http://127\.0\.0\.1:1"):
        await app.run(feed(names, []), platform, options, asyncio.Event())


@pytest.mark.usefixtures("no_waits")
@pytest.mark.parametrize("max_attempts", [0, 3])
async def test_a_service_is_called_until_it_answers(max_attempts):
    calls, stats = [], Stats(started_at=0.0)

    async def call() -> int:
        calls.append(1)
        if len(calls) < 3:
            raise KafkaUnreachable(f"no answer {len(calls)}")
        return len(calls)

    assert await app._wait_for_service(call, stats, max_attempts) == 3
    assert stats.message == "no answer 2"
    calls.clear()
    with pytest.raises(app.ServiceUnreachable, match="no answer 2"):
        await app._wait_for_service(call, stats, 2)


async def test_endpoints_of_two_protocols_are_refused(names):
    mixed = feed(names, ["wss://a", "wss://b#v1"], exchange="kraken", symbol="BTC/USD")
    with pytest.raises(app.MixedProtocols, match="whose ids differ"):
        await app.run(mixed, Platform(), app.Options(), asyncio.Event())
