"""The reference pages say what the commands say."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from k2.cli.main import app
from k2.ingest.simulator.faults import KINDS

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "reference" / "cli.md").read_text("utf-8")
COMMANDS = [command.name or command.callback.__name__ for command in app.registered_commands]
SHARED = {"--help", "--data"}  # told once for all of them


def options(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))


def offered(command: str) -> set[str]:
    """Every option that a command's help names before its explanation."""
    lines = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).stdout.splitlines()
    return set().union(*(options(line.strip().split("   ")[0]) for line in lines if line.lstrip().startswith("-")))


def sections() -> dict[str, str]:
    found = re.split(r"^## k2 (\w+)$", PAGE, flags=re.MULTILINE)
    return dict(zip(found[1::2], found[2::2], strict=True))


def test_every_command_has_its_section():
    assert set(sections()) == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_in_the_reference(command: str):
    found, told = offered(command), sections()[command]
    assert found >= {"--help"}
    as_above = options(sections()["trades"]) if "as above" in told else set()
    assert found - SHARED <= options(told) | as_above


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_a_table_is_one_of_the_command(command: str):
    cells = re.findall(r"^\| (.+?) \|", sections()[command], re.MULTILINE)
    assert set().union(*map(options, cells)) <= offered(command)


def test_the_faults_that_are_described_are_the_faults_there_are():
    page = (DOCS / "how-to" / "simulate-faults.md").read_text("utf-8")
    rows = re.findall(r"^\| `([a-z-]+)` \| (\w+)(?: \(a count\)| \(a duration\)) \| (.+) \|$", page, re.MULTILINE)
    assert {kind: (default, what) for kind, default, what in rows} == {
        kind: (default, what) for kind, (_, default, what) in KINDS.items()
    }
