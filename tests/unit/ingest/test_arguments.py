"""`python -m k2.ingest` refuses in one line what it cannot run with."""

import gc
import runpy
import socket
import sys
from pathlib import Path

import pytest

from k2.ingest.__main__ import main

FEED = "{apiVersion: k2.marketdata.io/v1alpha1, kind: ExchangeFeed, metadata: {name: one}, spec: {exchange: binance, symbols: [BTCUSDT]}}"  # noqa: E501


@pytest.fixture
def refusal(monkeypatch, tmp_path: Path, capsys):
    """What the command says on standard error before it exits with 2."""
    feed = tmp_path / "feed.yaml"
    feed.write_text(FEED)

    def run(words: str) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["k2.ingest", *words.split()])
        try:
            code: object = main()
        except SystemExit as end:
            code = end.code
        out, err = capsys.readouterr()
        assert (code, out) == (2, "")
        assert err.count("\n") == 1
        return err

    return run


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", "k2.ingest: the following arguments are required: --feed; see k2.ingest --help\n"),
        ("--feed nowhere", "nowhere: No such file or directory\n"),
        ("--feed .", ".: Is a directory\n"),
        ("--feed feed.yaml --shard 3", "--shard 3 has no symbols; spec.ingest.shards is 1\n"),
        ("--feed feed.yaml --channel quotes", "--channel quotes is not recorded; spec.channels are trades\n"),
        ("--feed feed.yaml --channel candles", "k2.ingest: argument --channel: "),
        ("--feed feed.yaml --shard -1", "k2.ingest: argument --shard: '-1' is not allowed: must be a number >= 0; "),
        ("--feed feed.yaml --port 65536", "k2.ingest: argument --port: '65536' is not allowed: must be 0 to 65535; "),
        ("--feed feed.yaml --port -1", "k2.ingest: argument --port: '-1' is not allowed: must be 0 to 65535; "),
        ("--feed feed.yaml --port ٣", "k2.ingest: argument --port: '٣' is not allowed: must be 0 to 65535; "),
        ("--feed feed.yaml --stale-after 0", "k2.ingest: argument --stale-after: '0' is not allowed: "),
        ("--feed feed.yaml --max-age nan", "k2.ingest: argument --max-age: 'nan' is not allowed: "),
        ("--feed feed.yaml --backoff-first -1", "k2.ingest: argument --backoff-first: '-1' is not allowed: "),
        ("--feed feed.yaml --max-attempts 1.5", "k2.ingest: argument --max-attempts: '1.5' is not allowed: "),
        ("--feed feed.yaml --grace inf", "k2.ingest: argument --grace: 'inf' is not allowed: "),
    ],
)
def test_what_a_shard_cannot_run_with_is_one_line(refusal, words: str, expected: str):
    assert refusal(words).startswith(expected)


def test_a_port_in_use_and_a_host_that_is_not_ours_are_named(refusal):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert refusal(f"--feed feed.yaml --port {port}").startswith(f"one: --host 127.0.0.1 --port {port}: ")
    assert refusal("--feed feed.yaml --host 203.0.113.1 --port 0").startswith("one: --host 203.0.113.1 --port 0: ")


def test_a_wrong_variable_of_the_environment_is_named(refusal, monkeypatch):
    monkeypatch.setenv("K2_REGISTRY_URL", "registry:8081")
    assert refusal("--feed feed.yaml") == (
        'K2_REGISTRY_URL: "registry:8081" is not allowed: must be a URL that begins with http:// or https://\n'
    )


def test_a_full_collection_does_not_look_through_what_was_imported(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["k2.ingest"])
    monkeypatch.delitem(sys.modules, "k2.ingest.__main__", raising=False)
    gc.unfreeze()
    try:
        with pytest.raises(SystemExit):
            runpy.run_module("k2.ingest", run_name="__main__")
        assert gc.get_freeze_count() > len(gc.get_objects())
    finally:
        gc.unfreeze()
