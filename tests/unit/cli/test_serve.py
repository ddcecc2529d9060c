"""`k2 serve` and `k2 keys` as processes."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

K2 = [sys.executable, "-m", "k2.cli.main"]


def k2(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [*K2, *map(str, words)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def test_a_key_is_printed_once_and_stored_as_a_hash(tmp_path: Path) -> None:
    created = k2("keys", "create", "research", "--scope", "read", "--scope", "sql", cwd=tmp_path)
    assert (created.returncode, created.stdout.startswith("k2_"), created.stderr) == (0, True, "")
    assert created.stdout.strip() not in (tmp_path / "keys.yaml").read_text("utf-8")
    again = k2("keys", "create", "research", "--scope", "read", cwd=tmp_path)
    assert (again.returncode, "choose another name" in again.stderr, again.stdout) == (2, True, "")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["keys", "create", "one", "--scope", "write"], "is not a scope"),
        (["keys", "create", "a b", "--scope", "read"], "name"),
        (["keys", "create", "one", "--scope", "read", "--rate", "often"], "600/minute"),
        (["keys", "create", "one", "--scope", "read", "--file", "absent/keys.yaml"], "No such file"),
        (["serve", "--host", "0.0.0.0"], "K2_API_KEYS"),
        (["serve", "--keys", "absent.yaml"], "absent.yaml"),
        (["serve", "--port", "99999"], "--port"),
    ],
)
def test_bad_input_is_one_line_and_2(words: list[str], says: str, tmp_path: Path) -> None:
    refused = k2(*words, cwd=tmp_path)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert says in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_gets_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    command = [*K2, "serve", "--port", "0"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        url = next(line for line in server.stderr if line.startswith("serving ")).split()[1]
        with urlopen(f"{url}/healthz", timeout=60) as answer:
            assert answer.read() == b"ok\n"
        with pytest.raises(HTTPError, match="503"):
            urlopen(Request(f"{url}/readyz"), timeout=60)
        second = k2("serve", "--port", url.rpartition(":")[2], cwd=tmp_path)
        assert (second.returncode, "choose another --port" in second.stderr) == (2, True)
        server.send_signal(number)
        assert server.wait(60) == 0


def test_a_container_is_configured_by_its_environment(tmp_path: Path) -> None:
    env = {**os.environ, "K2_API_HOST": "0.0.0.0"}
    command = [sys.executable, "-m", "k2.query.api"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, "K2_API_KEYS" in done.stderr, len(done.stderr.splitlines())) == (2, True, 1)


def test_an_unknown_variable_ends_the_container_with_2_and_the_nearest_name(tmp_path: Path) -> None:
    env = {**os.environ, "K2_API_MAX_QUERY": "2"}
    command = [sys.executable, "-m", "k2.query.api"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120, check=False)
    message = "K2_API_MAX_QUERY: unknown environment variable; did you mean K2_API_MAX_QUERIES?\n"
    assert (done.returncode, done.stderr) == (2, message)
