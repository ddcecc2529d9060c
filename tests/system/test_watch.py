"""`k2 watch --url`: the picture of a platform somewhere else, over the HTTP API as it is served."""

import io
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import uvicorn
from rich.console import Console

from k2.cli.commands.watch import Remote, show
from k2.query.api.app import create
from k2.query.api.keys import Scope, add
from k2.query.api.settings import ApiSettings
from k2.query.errors import BadQuery
from tests.spark.builders import consecutive, trade
from tests.system.harness import eventually
from tests.system.lab import Lab

pytestmark = pytest.mark.system


@contextmanager
def serving(lab: Lab, settings: ApiSettings) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(create(settings, lab.platform), port=port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        eventually("the server listens", lambda: server.started, within=30)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(30)


def picture(source: Remote, seconds: float) -> str:
    console = Console(file=io.StringIO(), width=120, height=30)
    show(source, time.monotonic() + seconds, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_trades_come_and_the_feeds_are_shown(lab: Lab):
    lab.commit(consecutive(1, 3), {0: 3})
    sending = threading.Timer(3.0, lambda: lab.send(trade(4, symbol="ETHUSDT", base_asset="ETH"), trade(5)))
    with serving(lab, ApiSettings()) as url:
        sending.start()
        drawn = picture(Remote(url, "", "ETHUSDT", None), 8.0)
        sending.join()
    assert "FRESHNESS" in drawn
    (row,) = [line.split() for line in drawn.splitlines() if line.startswith("BINANCE")]
    assert row[:3] == ["BINANCE", "1", "3"]
    (line,) = [line.split() for line in drawn.splitlines() if "ETHUSDT" in line]
    assert line[:6] == ["10:00:04.000", "BINANCE", "ETHUSDT", "BUY", "61837.63", "0.02"]


def test_a_key_is_sent_and_a_rejection_is_reported(lab: Lab, tmp_path):
    lab.commit([trade(1)], {0: 1})
    keys = tmp_path / "keys.yaml"
    token = add(keys, "reader", [Scope.READ])
    with serving(lab, ApiSettings(keys=keys)) as url:
        with pytest.raises(BadQuery, match="an API key is required"):
            picture(Remote(url, "", "", None), 1.0)
        with pytest.raises(BadQuery, match="lacks scope stream"):
            picture(Remote(url, token, "", None), 5.0)
