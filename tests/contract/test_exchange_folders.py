"""An exchange is one folder: every folder has the same files, and nothing outside names an exchange."""

import re
from importlib import import_module
from pathlib import Path

import pytest

from k2.ingest.exchanges import adapter, venue
from k2.ingest.simulator.listings import pair_of
from k2.schemas.channels import TRADES
from k2.schemas.codecs import avro
from k2.schemas.exchanges.registry import EXCHANGES

ROOT = Path(__file__).parents[2]
FOLDERS = ROOT / "ingest/src/k2/ingest/exchanges"
FILES = {"__init__.py", "spec.py", "messages.py", "parse.py", "rest.py", "instruments.py", "clock.py", "venue.py"}
REGISTRY = ROOT / "schemas/src/k2/schemas/exchanges/registry.py"
NAMES = re.compile("|".join(EXCHANGES), re.IGNORECASE)


def test_every_registered_exchange_is_a_folder_and_every_folder_is_registered():
    assert {path.name for path in FOLDERS.iterdir() if (path / "__init__.py").exists()} == set(EXCHANGES)


@pytest.mark.parametrize("name", EXCHANGES)
def test_the_folder_of_an_exchange_has_the_fixed_set_of_files(name: str):
    assert {path.name for path in (FOLDERS / name).glob("*.py")} >= FILES


@pytest.mark.parametrize("name", EXCHANGES)
def test_adapter_and_venue_of_an_exchange_are_found_by_its_name(name: str):
    spec = EXCHANGES[name]
    pair = pair_of(spec, spec.symbol_example)
    assert adapter(name, TRADES, [pair]).spec is spec
    assert venue(name).__module__ == f"k2.ingest.exchanges.{name}.venue"
    assert (
        spec.label in next(field for field in avro.load()["fields"] if field["name"] == "exchange")["type"]["symbols"]
    )


@pytest.mark.parametrize("name", EXCHANGES)
def test_an_exchange_declares_the_channels_of_its_adapters(name: str):
    assert set(EXCHANGES[name].channels) == set(import_module(f"k2.ingest.exchanges.{name}").CHANNELS)


def test_nothing_outside_its_folder_names_an_exchange():
    sources = [path for path in ROOT.glob("*/src/k2/**/*.py") if FOLDERS not in path.parents and path != REGISTRY]
    assert len(sources) > 200
    named = {
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in sources
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if NAMES.search(line)
    }
    assert named == set()
