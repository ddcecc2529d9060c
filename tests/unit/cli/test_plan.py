"""The plan of an embedded platform: parts, command lines, environment, ports, broker configuration."""

import socket
from pathlib import Path

import pytest

from k2.cli.embedded import broker, plan, ports
from k2.cli.embedded.layout import Layout
from k2.cli.embedded.plan import Options
from k2.cli.embedded.ports import PortInUse, choose
from k2.common.platform import Platform
from k2.schemas.feed.model import ExchangeFeed

SERVICES = ["kafka", "controller", "registry", "api"]


def test_each_shard_and_replica_is_a_part(feed):
    one = feed(symbols=[f"COIN{index}USDT" for index in range(20)], ingest={"shards": 2, "redundancy": 2})
    ingests = [f"ingest-one-{shard}-{replica}" for shard in (0, 1) for replica in (0, 1)]
    assert plan.parts([one], Options()) == [*SERVICES, "jobs", *ingests]
    assert plan.parts([one], Options(simulate=True)) == [*SERVICES, "jobs", "simulator-one", *ingests]


def test_each_channel_has_processes_of_its_own(feed):
    both = feed(channels=["quotes", "trades"], ingest={"redundancy": 2})
    ingests = ["ingest-one-0-0", "ingest-one-0-1", "ingest-one-quotes-0-0", "ingest-one-quotes-0-1"]
    assert [shard.part for shard in plan.shards([both])] == ingests
    commands = [plan.ingest_command(shard, Path("f"), Path("e"), 1, Options()) for shard in plan.shards([both])]
    assert [command[command.index("--channel") + 1] for command in commands] == ["trades"] * 2 + ["quotes"] * 2


def test_a_shard_without_symbols_is_no_part(feed):
    shards = list(plan.shards([feed(ingest={"shards": 64})]))
    assert len(shards) == 1
    assert shards[0].feed.shard(shards[0].index)


def test_nothing_runs_for_a_suspended_feed(feed):
    asleep = feed("two", suspend=True)
    assert plan.parts([asleep], Options(simulate=True)) == SERVICES
    both = plan.parts([feed(), asleep], Options(simulate=True))
    assert both == [*SERVICES, "jobs", "simulator-one", "ingest-one-0-0"]


@pytest.mark.parametrize("fragment", ["", "#v1"])
def test_a_feed_with_another_endpoint_keeps_its_protocol(feed, fragment: str):
    given = feed(ingest={"endpoints": [f"wss://far.example{fragment}", "wss://other.example"], "shards": 3})
    ingest = plan.with_endpoint(given, 9443).spec.ingest
    assert ingest.endpoints == (f"ws://127.0.0.1:9443{fragment}",)
    assert ingest.rest_endpoint == "http://127.0.0.1:9443"
    assert ingest.shards == 3
    assert given.spec.ingest.endpoints[0] == f"wss://far.example{fragment}"


def test_a_feed_round_trips_through_yaml(feed):
    given = plan.with_endpoint(feed(layers={"gold": {"trigger": "1s"}}, ingest={"backfill": {"maxAge": "5m"}}), 9443)
    assert ExchangeFeed.from_yaml(plan.to_yaml(given)) == given


def test_commands_say_which_feed_shard_and_port(feed):
    options = Options(seed="s", rate=5.0, faults=("close@3s", "drop=9"), memory="2g", attempts=3)
    shard = next(plan.shards([feed()]))
    ingest = plan.ingest_command(shard, Path("f.yaml"), Path("e.json"), 9101, options)
    assert ingest[1:] == (
        "-m k2.ingest --feed f.yaml --channel trades --shard 0 --replica 0 --port 9101 --egress e.json"
        " --max-attempts 3".split()
    )
    jobs = plan.jobs_command([Path("f.yaml"), Path("g.yaml")], 9102, options)
    assert jobs[1:] == "-m k2.jobs --feed f.yaml --feed g.yaml --port 9102 --memory 2g --restart --audit".split()
    simulator = plan.simulator_command(feed(symbols=["BTCUSDT", "ETHUSDT"]), 9443, 12.5, options)
    assert (
        simulator[1:]
        == (
            "-m k2.ingest.simulator binance --port 9443 --seed s/one --rate 5.0 --since 12.5"
            " --fault close@3s --fault drop=9 --symbols BTCUSDT ETHUSDT"
        ).split()
    )


def test_feeds_of_one_exchange_share_the_machines_address(feed):
    feeds = [
        feed(channels=["trades", "quotes"]),
        feed("two", ingest={"redundancy": 2}),
        feed("three", exchange="bybit"),
        feed("four", suspend=True),
    ]
    assert [plan.egress_processes(each, feeds, Options()) for each in feeds] == [4, 4, 1, 4]
    assert [plan.egress_processes(each, feeds, Options(simulate=True)) for each in feeds] == [2, 2, 1, 1]


def test_processes_read_the_same_platform_from_their_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    platform = Layout.at(tmp_path).platform(kafka_port=1234, registry_port=4321)
    for name, value in plan.environment(platform).items():
        monkeypatch.setenv(name, value)
    assert Platform() == platform
    assert platform.catalog_uri == f"sqlite:///{tmp_path}/catalog.db"


def test_previous_ports_are_reused_and_those_in_use_replaced():
    previous = ports.free()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        lost = taken.getsockname()[1]
        chosen = choose(["kafka", "jobs", "new"], requested={}, previous={"kafka": previous, "jobs": lost})
    assert chosen["kafka"] == previous
    assert chosen["jobs"] not in {lost, previous}
    assert len(set(chosen.values())) == 3


def test_two_parts_never_share_a_previous_port():
    port = ports.free()
    chosen = choose(["a", "b"], requested={}, previous={"a": port, "b": port})
    assert chosen["a"] == port != chosen["b"]


def test_a_requested_port_never_goes_to_another_part():
    port = ports.free()
    chosen = choose(["controller", "kafka"], requested={"kafka": port}, previous={"controller": port})
    assert chosen["kafka"] == port != chosen["controller"]


def test_two_parts_cannot_request_one_port():
    port = ports.free()
    with pytest.raises(PortInUse, match=f"--registry-port {port} is requested twice; choose another"):
        choose(["kafka", "registry"], requested={"kafka": port, "registry": port}, previous={})


def test_a_requested_port_in_use_is_rejected():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUse, match=f"--kafka-port {port} is in use by another process; choose another"):
            choose(["kafka"], requested={"kafka": port}, previous={"kafka": port})


def test_the_broker_listens_on_this_machine_only_and_accepts_the_largest_dead_letter(tmp_path: Path):
    lines = broker.properties(tmp_path, 9092, 9093).splitlines()
    values = dict(line.split("=", 1) for line in lines)
    assert len(values) == len(lines)
    addresses = [word for key in ("listeners", "advertised.listeners") for word in values[key].split(",")]
    assert {word.rpartition(":")[0].partition("://")[2] for word in addresses} == {"127.0.0.1"}
    assert values["log.dirs"] == str(tmp_path / "data")
    assert values["auto.create.topics.enable"] == "false"
    frame = 1 << 20
    assert int(values["message.max.bytes"]) > 2 * frame
    assert int(values["replica.fetch.max.bytes"]) >= int(values["message.max.bytes"])


def test_topics_have_the_feeds_partitions_and_retention_and_gap_events_are_kept(feed):
    topics = {topic.topic: topic for topic in broker._topics(feed(kafka={"partitions": 3, "retention": "2h"}))}
    trades = topics["market.crypto.trades.binance"]
    assert (trades.num_partitions, trades.config["retention.ms"]) == (3, "7200000")
    assert topics["market.crypto.gaps.binance"].config["retention.ms"] == "-1"
    assert topics["market.crypto.gaps.binance"].num_partitions == 1
    shared = {f"market.crypto.{kind}.binance" for kind in ("gaps", "evidence", "instruments", "deadletter")}
    assert set(topics) == {trades.topic, *shared}


def test_the_api_listens_on_this_machine_alone(monkeypatch):
    monkeypatch.setenv("K2_API_HOST", "0.0.0.0")
    assert plan.api_command()[1:] == ["-m", "k2.query.api"]
    assert plan.api_environment(8123) == {"K2_API_HOST": "127.0.0.1", "K2_API_PORT": "8123"}
