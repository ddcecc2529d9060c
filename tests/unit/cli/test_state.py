"""The state file, and the phase of a feed."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from k2.cli.embedded import state, status
from k2.cli.embedded.layout import Layout
from k2.cli.embedded.state import Process, State, UnreadableState
from k2.cli.terminal import console, status_table
from k2.schemas.status import LayerStatus, ShardStatus


def test_a_state_round_trips(tmp_path: Path):
    saved = State(
        Process.of(os.getpid()), 12.5, {"kafka": 9092}, {"broker": Process(7, 1.5)}, ["one"], {"jobs": "why"}, 3.25
    )
    path = tmp_path / "state.json"
    state.save(path, saved)
    assert state.load(path) == saved
    assert [file.name for file in tmp_path.iterdir()] == ["state.json"]


def test_without_a_file_the_state_is_new(tmp_path: Path):
    loaded = state.load(tmp_path / "state.json")
    assert loaded == State()
    assert not loaded.running


@pytest.mark.parametrize(
    "text", ["", "[]", '"x"', "{", '{"ports": 5}', '{"ports": {"kafka": "x"}}', '{"supervisor": {"pid": 1}}', "\xff"]
)
def test_an_invalid_state_file_is_rejected_with_the_remedy(tmp_path: Path, text: str):
    path = tmp_path / "state.json"
    path.write_text(text, "latin-1")
    with pytest.raises(UnreadableState, match=r"state\.json cannot be read \(.*\); delete it"):
        state.load(path)


def test_a_state_file_that_cannot_be_opened_is_refused(tmp_path: Path):
    (tmp_path / "state.json").mkdir()
    with pytest.raises(UnreadableState, match="Is a directory"):
        state.load(tmp_path / "state.json")


def test_unknown_fields_of_a_later_release_are_ignored(tmp_path: Path):
    path = tmp_path / "state.json"
    path.write_text(json.dumps({"ports": {"kafka": 9092}, "invented": "later"}))
    assert state.load(path).ports == {"kafka": 9092}


def test_a_later_process_with_the_same_id_is_not_mistaken():
    mine = Process.of(os.getpid())
    process = mine.find()
    assert process is not None
    assert process.pid == os.getpid()
    assert Process(mine.pid, mine.created - 60.0).find() is None


def test_a_dead_process_is_not_found_even_before_it_is_waited_for():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        identity = Process.of(child.pid)
        assert identity.find() is not None
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert identity.find() is None
        child.wait()
    assert identity.find() is None


LAYERS = {layer: LayerStatus(state="RUNNING", rows=1) for layer in ("bronze", "silver", "gold")}
UP = ShardStatus(shard="0-0", connected=True)
DOWN = ShardStatus(shard="0-0", connected=False)


def layers(state_: str) -> dict[str, LayerStatus]:
    return LAYERS | {"silver": LayerStatus(state=state_, rows=1)}


@pytest.mark.parametrize(
    ("running", "suspend", "failed", "shards", "layers", "phase"),
    [
        (False, False, {}, [], {}, "Stopped"),
        (False, True, {}, [], {}, "Stopped"),
        (True, True, {}, [], {}, "Suspended"),
        (True, False, {}, [], {}, "Progressing"),
        (True, False, {}, [UP], {}, "Progressing"),
        (True, False, {}, [], LAYERS, "Progressing"),
        (True, False, {}, [UP], layers("STARTING"), "Progressing"),
        (True, False, {}, [UP], LAYERS, "Running"),
        (True, False, {}, [DOWN], LAYERS, "Degraded"),
        (True, False, {}, [UP], layers("FAILED"), "Degraded"),
        (True, False, {}, [], layers("FAILED"), "Degraded"),
        (True, False, {"ingest-one-0-0": "gave up"}, [], LAYERS, "Failed"),
        (True, False, {"ingest-two-0-0": "gave up"}, [UP], LAYERS, "Running"),
    ],
)
def test_the_phase_follows_from_what_runs(feed, running, suspend, failed, shards, layers, phase):
    platform = State(Process.of(os.getpid()) if running else None, failed=failed)
    assert status.phase(feed(suspend=suspend), platform, shards, layers, 1) == phase


def test_a_stopped_platform_still_has_its_row(tmp_path: Path, file, feed):
    layout = Layout.at(tmp_path)
    layout.feeds.mkdir()
    (layout.feeds / "one.yaml").write_bytes(file().read_bytes())
    platform = State(feeds=["one"], failed={"ingest-one-0-0": "one: nobody listens"})
    assert status.feeds(layout, platform) == [feed()]
    [row] = status.collect(status.feeds(layout, platform), platform)
    assert (row.name, row.phase, row.symbols, row.desired, row.connected) == ("one", "Stopped", 1, 1, 0)
    assert row.message == "one: nobody listens"
    assert row.freshness is None


def test_every_channel_has_its_own_status_and_the_feed_the_sum(feed):
    both = feed(channels=["trades", "quotes"])
    trades = ShardStatus(shard="0-0", connected=True, messages_per_second=2.0, delivered=5, states={"flowing": 1})
    quotes = ShardStatus(shard="0-0", channel="quotes", connected=False, reconnects=3, message="HTTP 503")
    committed = {"gold": LayerStatus(state="RUNNING", rows=7, freshness_seconds=1.5)}
    behind = {"quotes/gold": LayerStatus(state="RUNNING", rows=9, freshness_seconds=40.0)}
    first, second = (
        status.channel_status(channel, 1, [trades, quotes], committed | behind) for channel in both.channels
    )
    assert (first.name, first.connected, first.rate, first.delivered, first.rows) == ("trades", 1, 2.0, 5, 7)
    assert (first.reconnects, first.freshness, first.states) == (0, 1.5, {"flowing": 1})
    assert (second.name, second.connected, second.desired, second.rate) == ("quotes", 0, 1, 0.0)
    assert (second.reconnects, second.rows, second.freshness, second.states) == (3, 9, 40.0, {})


def test_only_a_feed_of_several_channels_has_rows_for_them(feed):
    platform = State(Process.of(os.getpid()), feeds=["one"])
    printed = {}
    for channels in (["trades"], ["quotes", "trades"]):
        text = io.StringIO()
        console(text).print(status_table(status.collect([feed(channels=channels)], platform)))
        printed[len(channels)] = [line.split()[0] for line in text.getvalue().splitlines()]
    assert printed == {1: ["NAME", "one"], 2: ["NAME", "one", "trades", "quotes"]}


def test_an_unreachable_process_has_zero_values(feed):
    from k2.cli.embedded.ports import free

    platform = State(Process.of(os.getpid()), ports={"jobs": free(), "ingest-one-0-0": free()}, feeds=["one"])
    [row] = status.collect([feed()], platform)
    assert (row.phase, row.rate, row.rows) == ("Progressing", 0.0, {})
