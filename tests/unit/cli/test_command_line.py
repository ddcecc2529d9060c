"""Invalid command lines: one line on standard error and exit code 2, for every command."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from k2.cli.main import app

FULL = Path("/dev/full")
WRONG = [
    ("stats", "k2: no such command 'stats'. Did you mean 'status'?; see k2 --help"),
    ("--nope", "k2: no such option: --nope; see k2 --help"),
    ("up", "k2 up: missing option '-f' / '--file'; see k2 up --help"),
    ("up -f x --rate fast", "k2 up: invalid value for '--rate': must be a valid number, "),
    ("up -f x --rate 0", "k2 up: invalid value for '--rate': must be greater than or equal to 0.1; "),
    ("up -f x --rate nan", "k2 up: invalid value for '--rate': must be "),
    ("up -f x --attempts -1", "k2 up: invalid value for '--attempts': must be greater than or equal to 0; "),
    ("up -f x --kafka-port 70000", "k2 up: invalid value for '--kafka-port': must be less than or equal to 65535; "),
    ("status --jsn", "k2 status: no such option: --jsn; did you mean --json?; see k2 status --help"),
    ("trades --symbl X", "k2 trades: no such option: --symbl; did you mean --symbol?; see k2 trades --help"),
    ("keys creat x", "k2 keys: no such command 'creat'. Did you mean 'create'?; see k2 keys --help"),
    ("down now", "k2 down: got unexpected extra argument(s) (now); see k2 down --help"),
    ("logs -n 0", "k2 logs: invalid value for '--lines' / '-n': must be greater than or equal to 1; "),
    ("trades --format xml", "k2 trades: invalid value for '--format': 'xml' is not one of 'table', 'json', 'csv', "),
    ("trades --limit -1", "k2 trades: invalid value for '--limit': must be greater than or equal to 1; "),
    ("trades --limit 1.5", "k2 trades: invalid value for '--limit': must be a valid integer, "),
    ("trades --limit 99999999999999999999", "k2 trades: invalid value for '--limit': must be "),
    ("trades --window-minutes x", "k2 trades: invalid value for '--window-minutes': must be a valid number, "),
    ("trades --start", "k2 trades: option '--start' requires an argument; see k2 trades --help"),
    ("ohlcv", "k2 ohlcv: missing option '--symbol'; see k2 ohlcv --help"),
    ("sql --fil x", "k2 sql: no such option: --fil; did you mean --file?; see k2 sql --help"),
    ("snapshots gold", "k2 snapshots: got unexpected extra argument(s) (gold); "),
    (
        "audit --since yesterday",
        "--since 'yesterday' is not a time or a duration; write 2026-03-01, 2026-03-01T10:00:00Z or 26h",
    ),
    ("backup", "k2 backup: missing argument 'target'; see k2 backup --help"),
    ("restore /none", "/none is no backup: it has no backup.json"),
    ("rebuild bronze", "k2 rebuild: invalid value for 'layer': 'bronze' is not one of 'silver', 'gold'; "),
    ("dead-letters redrive", "k2 dead-letters redrive: missing argument 'category'; "),
    ("dead-letters redrive NOPE", "'NOPE' cannot be judged again; choose from MALFORMED_HEADER, "),
    ("dead-letters show topic/1", "'topic/1' is no dead letter; write TOPIC/PARTITION/OFFSET, as k2 dead-letters"),
    ("dead-letters list --stage gold", "k2 dead-letters list: invalid value for '--stage': 'gold' is not one of "),
    ("simulate", "k2 simulate: the following arguments are required: exchange; see k2 simulate --help"),
    ("simulate binance --nope", "k2 simulate: no such option: --nope; see k2 simulate --help"),
    ("simulate binance --sed 2", "k2 simulate: no such option: --sed; did you mean --seed?; see k2 simulate --help"),
    ("simulate binance --port x", "k2 simulate: argument --port: 'x' is not allowed: must be 0 to 65535; "),
    ("simulate binance --capture nowhere", "nowhere: No such file or directory"),
    ("simulate binance --capture .", ".: Is a directory"),
    ("validate", "k2 validate: missing argument 'path'; see k2 validate --help"),
    ("validate a b", "k2 validate: got unexpected extra argument(s) (b); see k2 validate --help"),
]
READ = ["status", "down", "logs", "trades", "ohlcv --symbol BTCUSDT", "sql 'x'", "snapshots", "audit", "doctor"]


def k2(*words: object, **options: dict[str, str]) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], **options)


def refused(done: Result, message: str) -> None:
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1
    assert done.stderr.endswith("\n")


@pytest.mark.parametrize(("words", "message"), WRONG, ids=[words for words, _ in WRONG])
def test_an_invalid_command_line_is_one_line_that_says_what_to_change(
    tmp_path: Path, monkeypatch, words: str, message: str
):
    monkeypatch.chdir(tmp_path)
    refused(k2(*words.split()), message)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", READ)
def test_a_file_is_not_accepted_as_a_folder(tmp_path: Path, command: str):
    file = tmp_path / "data"
    file.touch()
    name = command.split(maxsplit=1)[0]
    refused(k2(*command.split(), "--data", file), f"k2 {name}: invalid value for '--data': dir {str(file)!r} is a file")


@pytest.mark.parametrize("command", ["trades", "snapshots", "audit"])
def test_an_invalid_environment_variable_is_named(tmp_path: Path, command: str):
    (tmp_path / "catalog.db").touch()
    message = "K2_LOG_FORMAT: \"xml\" is not allowed: must be 'json' or 'console'\n"
    refused(k2(command, "--data", tmp_path, env={"K2_LOG_FORMAT": "xml"}), message)


def test_a_misspelt_environment_variable_is_a_warning_with_the_nearest_name(file):
    variables = {"K2_CATALOG_URL": "x", "K2_API_PORT_80_TCP": "x", "K2_SOMETHING_ELSE": "x"}
    done = k2("validate", file(), env=variables)
    warning = "warning: K2_CATALOG_URL: unknown environment variable; did you mean K2_CATALOG_URI?\n"
    assert (done.exit_code, done.stderr) == (0, warning)


def test_without_a_command_the_help_is_printed():
    done = k2()
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == k2("--help").stdout
    assert "validate" in done.stdout


@pytest.mark.parametrize("command", [*(command.split()[0] for command in READ), "up", "simulate", "validate"])
def test_every_command_has_help(command: str):
    done = k2(command, "--help")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.lower().startswith(f"usage: k2 {command} ")


@pytest.mark.skipif(not FULL.is_char_device(), reason="needs /dev/full")
@pytest.mark.parametrize("words", [["--help"], ["validate", "-"]])
def test_an_output_that_cannot_be_written_exits_with_2(file, words: list[str]):
    command = [sys.executable, "-m", "k2.cli.main", *words]
    with FULL.open("wb") as full, file().open("rb") as feed:
        done = subprocess.run(command, stdin=feed, stdout=full, stderr=subprocess.PIPE, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr == b"standard output cannot be written: No space left on device\n"
