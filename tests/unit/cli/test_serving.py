"""`k2 serve` and `k2 keys` as they are called."""

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


def test_a_key_is_printed_once_and_kept_as_a_hash(tmp_path: Path) -> None:
    made = k2("keys", "new", "research", "--scope", "read", "--scope", "sql", cwd=tmp_path)
    assert (made.returncode, made.stdout.startswith("k2_"), made.stderr) == (0, True, "")
    assert made.stdout.strip() not in (tmp_path / "keys.yaml").read_text("utf-8")
    again = k2("keys", "new", "research", "--scope", "read", cwd=tmp_path)
    assert (again.returncode, "choose another" in again.stderr, again.stdout) == (2, True, "")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["keys", "new", "one", "--scope", "write"], "is no scope"),
        (["keys", "new", "a b", "--scope", "read"], "name"),
        (["keys", "new", "one", "--scope", "read", "--rate", "often"], "600/minute"),
        (["keys", "new", "one", "--scope", "read", "--file", "absent/keys.yaml"], "No such file"),
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
def test_it_serves_until_it_is_told_to_stop(tmp_path: Path, number: signal.Signals) -> None:
    command = [*K2, "serve", "--port", "0"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        url = next(line for line in server.stderr if line.startswith("serving ")).split()[1]
        with urlopen(f"{url}/healthz", timeout=60) as answer:
            assert answer.read() == b"ok\n"
        with pytest.raises(HTTPError, match="503"):
            urlopen(Request(f"{url}/readyz"), timeout=60)
        taken = k2("serve", "--port", url.rpartition(":")[2], cwd=tmp_path)
        assert (taken.returncode, "choose another --port" in taken.stderr) == (2, True)
        server.send_signal(number)
        assert server.wait(60) == 0


def test_a_container_is_told_everything_by_its_environment(tmp_path: Path) -> None:
    env = {**os.environ, "K2_API_HOST": "0.0.0.0"}
    command = [sys.executable, "-m", "k2.query.api"]
    found = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert (found.returncode, "K2_API_KEYS" in found.stderr, len(found.stderr.splitlines())) == (2, True, 1)
