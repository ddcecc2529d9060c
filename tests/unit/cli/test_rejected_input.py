"""Rejected input of `k2 up`, `status`, `down`, `logs`, `audit` and `simulate`: exit codes and messages."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from k2.cli.main import app


def k2(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def refused(done: Result, message: str, code: int = 2) -> None:
    """Assert that the command was rejected with exactly one line."""
    assert (done.exit_code, done.stderr, done.stdout) == (code, f"{message}\n", "")


def test_two_feeds_with_one_topic_are_rejected(tmp_path: Path, file):
    done = k2("up", "-f", file("one"), "-f", file("two", symbols=["ETHUSDT"]), "--data", tmp_path / "data")
    refused(done, 'two: "market.crypto.trades.binance" is not allowed: this topic already belongs to feed one')
    assert not (tmp_path / "data").exists()


def test_two_feeds_with_one_symbol_are_rejected(tmp_path: Path, file):
    other = file("two", kafka={"topic": "another"})
    done = k2("up", "-f", file("one"), "-f", other, "--data", tmp_path / "data")
    refused(done, 'two: "BTCUSDT" is not allowed: this symbol already belongs to feed one')


@pytest.mark.parametrize("word", ["5q", "0s", "-5s", "soon", "1.5h", "90"])
def test_an_invalid_duration_is_rejected(tmp_path: Path, file, word: str):
    done = k2("up", "-f", file(), "--duration", word, "--data", tmp_path / "data")
    refused(done, f"--duration: {word!r} is not a duration; write a whole number and ms, s, m, h or d, such as 10s")


@pytest.mark.parametrize("word", ["lots", "1", "0g", "-1g", "1G\n", "1g -version"])
def test_an_invalid_heap_size_is_rejected_before_spark_starts(tmp_path: Path, file, word: str):
    done = k2("up", "-f", file(), f"--memory={word}", "--data", tmp_path / "data")
    refused(done, f"--memory: {word!r} is not a size; write a whole number and m or g, such as 1g")


def test_an_unknown_fault_is_refused_before_anything_starts(tmp_path: Path, file):
    done = k2("up", "-f", file(), "--simulate", "--fault", "wobble", "--data", tmp_path / "data")
    assert done.exit_code == 2
    assert done.stderr.startswith("--fault: 'wobble' is no fault; known are drop, ")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("option", ["--kafka-port", "--registry-port"])
@pytest.mark.parametrize("number", ["65536", "-1", "http"])
def test_an_invalid_port_is_rejected(tmp_path: Path, file, option: str, number: str):
    done = k2("up", "-f", file(), f"{option}={number}", "--data", tmp_path / "data")
    assert done.exit_code == 2
    assert option in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [("status",), ("down",)])
def test_without_a_platform_the_exit_code_is_3(tmp_path: Path, command: tuple[str, ...]):
    message = f"no platform in {tmp_path}; start one with k2 up, or choose another --data"
    refused(k2(*command, "--data", tmp_path), message, code=3)


def test_without_logs_or_tables_the_exit_code_is_3(tmp_path: Path):
    remedy = f"in {tmp_path}; start a platform with k2 up, or choose another --data"
    refused(k2("logs", "broker", "--data", tmp_path), f"no logs {remedy}", code=3)
    refused(k2("audit", "--data", tmp_path), f"no tables {remedy}", code=3)


@pytest.mark.parametrize("part", ["jobs", "../state", "broker.log"])
def test_an_unknown_process_is_rejected_with_the_available_ones(tmp_path: Path, part: str):
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "broker.log").write_text("a\nb\nc\n")
    (tmp_path / "state.log").write_text("not a part's")
    refused(k2("logs", part, "--data", tmp_path), f"no process {part!r}; available: broker")
    assert k2("logs", "--data", tmp_path).stdout == "broker\n"
    assert k2("logs", "broker", "-n", "2", "--data", tmp_path).stdout == "b\nc\n"


def test_a_log_that_cannot_be_read_is_named(tmp_path: Path):
    log = tmp_path / "logs" / "broker.log"
    log.mkdir(parents=True)
    refused(k2("logs", "broker", "--data", tmp_path), f"{log}: Is a directory")


@pytest.mark.parametrize("command", ["status", "down", "audit"])
def test_a_corrupt_state_file_is_named_with_the_remedy(tmp_path: Path, command: str):
    (tmp_path / "state.json").write_text('{"ports": ')
    (tmp_path / "catalog.db").touch()
    done = k2(command, "--data", tmp_path)
    assert done.exit_code == 2
    assert done.stderr.startswith(f"{tmp_path}/state.json cannot be read (")
    assert done.stderr.endswith("); delete it; tables and topics are stored elsewhere\n")
    assert len(done.stderr.splitlines()) == 1


def test_missing_feed_files_are_named_with_the_remedy(tmp_path: Path):
    (tmp_path / "state.json").write_text('{"feeds": ["one"]}')
    done = k2("status", "--data", tmp_path)
    assert done.exit_code == 2
    assert f"{tmp_path}/feeds" in done.stderr
    assert done.stderr.endswith("; run k2 up again\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["mtgox"], "invalid choice: 'mtgox'"),
        (["binance", "--symbols", "BTC-USD"], "binance spells symbols like BTCUSDT"),
        (["binance", "--fault", "wobble"], "'wobble' is no fault; known are drop, "),
        (["binance", "--fault", "drop=x"], "'drop=x': write drop=20@10s; "),
        (["binance", "--port", "65536"], "--port: '65536' is not allowed: must be 0 to 65535"),
        (["binance", "--rate", "0"], "--rate: '0' is not allowed: must be a number >= 0.1"),
        (["binance", "--since", "nan"], "--since: 'nan' is not allowed: must be a number >= 0"),
        (["binance", "--count", "1.5"], "--count: '1.5' is not allowed: must be a number >= 0"),
    ],
)
def test_the_simulator_rejects_invalid_options(words: list[str], message: str):
    done = k2("simulate", *words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("content", [b"", b"\x00\xff", b"hello\n"], ids=["empty", "binary", "prose"])
def test_an_invalid_capture_is_rejected(tmp_path: Path, content: bytes):
    capture = tmp_path / "frames"
    capture.write_bytes(content)
    refused(k2("simulate", "binance", "--capture", capture), f"{capture}: no line has the form `<time> <frame>`")


def test_the_simulator_names_a_port_in_use():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = k2("simulate", "binance", "--port", port)
    assert done.exit_code == 2
    assert done.stderr.startswith(f"--host 127.0.0.1 --port {port}: ")
    assert done.stderr.endswith("; choose another\n")


def test_a_closed_pipe_is_quiet(tmp_path: Path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "broker.log").write_text("a line that is long enough to fill a pipe\n" * 50_000)
    command = [sys.executable, "-m", "k2.cli.main", "logs", "broker", "-n", "50000", "--data", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b"a line")
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(20) == -signal.SIGPIPE


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc to see which signals are ignored")
def test_clients_that_disconnect_do_not_end_the_simulator(k2_process):
    """A second write to a closed socket raises SIGPIPE, which ends a process that does not ignore it."""
    process, _ = k2_process("simulate", "binance")
    ignored = int(Path(f"/proc/{process.pid}/status").read_text().partition("SigIgn:")[2].split()[0], 16)
    assert ignored >> (signal.SIGPIPE - 1) & 1


def test_messages_to_a_closed_pipe_do_not_end_a_server():
    script = (
        "from k2.cli.exits import ignore_sigpipe, say; ignore_sigpipe(); input(); say('one'); say('two'); print('on')"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", script], text=True, **pipes) as process:
        process.stderr.close()
        process.stdin.write("\n")
        process.stdin.close()
        assert process.stdout.read() == "on\n"
        assert process.wait(20) == 0


def test_help_imports_neither_spark_nor_the_query_engine():
    heavy = {"pyspark", "duckdb", "pyarrow", "pyiceberg", "aiohttp", "confluent_kafka"}
    script = f"""
import sys
from k2.cli.main import app
try:
    app(["--help"])
except SystemExit as end:
    assert end.code == 0
print(sorted({heavy!r} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "validate" in done.stdout
