"""`k2 validate`: accepted and rejected files."""

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from k2.cli.main import app


def validate(*words: object, stdin: str | bytes | None = None) -> Result:
    return CliRunner().invoke(app, ["validate", *map(str, words)], input=stdin)


def test_a_valid_feed_is_summarised_in_one_line(file):
    done = validate(file())
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == "one: 1 symbols on binance, topic market.crypto.trades.binance\n"


def test_a_dash_reads_standard_input(body):
    assert validate("-", stdin=yaml.safe_dump(body())).exit_code == 0
    done = validate("-", stdin=yaml.safe_dump(body() | {"kind": "Pod"}))
    assert (done.exit_code, done.stderr) == (2, "-: kind: \"Pod\" is not allowed: must be 'ExchangeFeed'\n")


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path):
    for path, reason in ((tmp_path / "none.yaml", "No such file or directory"), (tmp_path, "Is a directory")):
        done = validate(path)
        assert (done.exit_code, done.stderr) == (2, f"{path}: {reason}\n")


TEXT = yaml.safe_dump(
    {
        "apiVersion": "k2.marketdata.io/v1alpha1",
        "kind": "ExchangeFeed",
        "metadata": {"name": "one"},
        "spec": {"exchange": "binance", "symbols": ["BTCUSDT"]},
    }
).encode()


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"\xff\xfe\x00k", "byte 0: the file must be UTF-8 text"),
        (b"", '"0 documents" is not allowed: a file must hold exactly one object'),
        (TEXT + b"---\n" + TEXT, '"2 documents" is not allowed: a file must hold exactly one object'),
        (TEXT.replace(b"ExchangeFeed", b"Pod"), "kind: \"Pod\" is not allowed: must be 'ExchangeFeed'"),
        (
            TEXT.replace(b"binance", b"mtgox"),
            "spec.exchange: \"mtgox\" is not allowed: must be 'binance', 'kraken', 'coinbase', 'bybit' or 'okx'",
        ),
        (
            TEXT.replace(b"BTCUSDT", b"BTC-USD"),
            (
                'spec.symbols[0]: "BTC-USD" is not allowed: '
                "binance spells symbols like BTCUSDT: capital letters and digits"
            ),
        ),
    ],
    ids=["binary", "empty", "two documents", "a pod", "unknown exchange", "another's spelling"],
)
def test_an_invalid_feed_is_rejected_with_path_value_and_allowed_values(tmp_path: Path, raw: bytes, message: str):
    path = tmp_path / "feed.yaml"
    path.write_bytes(raw)
    done = validate(path)
    assert (done.exit_code, done.stderr, done.stdout) == (2, f"{path}: {message}\n", "")


@pytest.mark.skipif(not Path("/dev/zero").is_char_device(), reason="needs /dev/zero")
def test_an_endless_file_is_rejected():
    done = validate("/dev/zero")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == '/dev/zero: "1048577 bytes" is not allowed: at most 1048576 bytes\n'


def test_every_problem_has_a_line_of_its_own(file):
    path = file(suspend="maybe", wibble=1, symbols=[])
    done = validate(path)
    assert done.exit_code == 2
    lines = done.stderr.splitlines()
    assert all(line.startswith(f"{path}: spec.") for line in lines)
    for value in ('spec.suspend: "maybe"', "spec.wibble: 1", "spec.symbols: []"):
        assert len([line for line in lines if f": {value} is not allowed: " in line]) == 1
    assert len(lines) == 3


def test_terminal_codes_in_a_file_do_not_reach_the_terminal(file):
    done = validate(file(symbols=["\x1b[2J\u202eBTC"]))
    assert done.exit_code == 2
    assert done.stderr.removesuffix("\n").isprintable()
