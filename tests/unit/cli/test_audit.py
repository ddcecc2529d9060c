"""`k2 audit --json`: a whole document and the right exit code, whatever becomes of the audit's process."""

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from k2.cli.commands import audit
from k2.cli.main import app


def _k2(folder: Path, *words: str):
    return CliRunner().invoke(app, ["audit", "--json", "--data", str(folder), *words])


def test_an_audit_that_is_refused_prints_a_document_with_the_reason(tmp_path: Path):
    for words, code in (((), 3), (("--since", "yesterday"), 2)):
        done = _k2(tmp_path, *words)
        document = json.loads(done.stdout)
        assert (done.exit_code, document["verdict"], document["error"]["exit_code"]) == (code, "unfinished", code)
        assert done.stderr == f"{document['error']['text']}\n"


def test_an_age_is_accepted(tmp_path: Path):
    assert "no tables" in json.loads(_k2(tmp_path, "--since", "26h").stdout)["error"]["text"]


@pytest.mark.parametrize(
    ("code", "exit_code", "text"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 1, "signal 9 ended"),
        ("raise SystemExit(3)", 3, "the audit's process failed"),
    ],
)
def test_a_process_that_ends_without_a_document_gets_one(tmp_path: Path, monkeypatch, code, exit_code, text):
    (tmp_path / "catalog.db").touch()
    monkeypatch.setattr(audit, "_prepared", lambda *_: ([sys.executable, "-c", code], {}))
    done = _k2(tmp_path)
    document = json.loads(done.stdout)
    assert (done.exit_code, document["error"]["exit_code"]) == (exit_code, exit_code)
    assert text in document["error"]["text"]
