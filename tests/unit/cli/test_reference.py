"""The reference pages match the commands."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from k2.cli.main import app
from k2.ingest.simulator.faults import KINDS

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "reference" / "cli.md").read_text("utf-8")
COMMANDS = [command.name or command.callback.__name__ for command in app.registered_commands]
SHARED = {"--help", "--data"}  # documented once for all commands


def options(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))


def offered(command: str) -> set[str]:
    """Return every option in a command's help."""
    lines = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).stdout.splitlines()
    return set().union(*(options(line.strip().split("   ")[0]) for line in lines if line.lstrip().startswith("-")))


def sections() -> dict[str, str]:
    parts = re.split(r"^## k2 (\w+)$", PAGE, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_command_has_its_section():
    assert set(sections()) == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_in_the_reference(command: str):
    available, section = offered(command), sections()[command]
    assert available >= {"--help"}
    as_above = options(sections()["trades"]) if "as above" in section else set()
    assert available - SHARED <= options(section) | as_above


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_a_table_is_one_of_the_command(command: str):
    cells = re.findall(r"^\| (.+?) \|", sections()[command], re.MULTILINE)
    assert set().union(*map(options, cells)) <= offered(command)


def test_the_documented_faults_are_the_implemented_ones():
    page = (DOCS / "how-to" / "simulate-faults.md").read_text("utf-8")
    rows = re.findall(r"^\| `([a-z-]+)` \| ([\w,]*) ?\((.+?)\) \| (.+) \|$", page, re.MULTILINE)
    units = {"count": "a count", "time": "a duration", "offset": "a duration, may be negative", "symbol": "a symbol"}
    assert {kind: tuple(cells) for kind, *cells in rows} == {
        kind: (default, units[unit], what) for kind, (unit, default, what) in KINDS.items()
    }
