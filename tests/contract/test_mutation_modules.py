"""The modules and tests that `make mutation` names are there."""

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = tomllib.loads((ROOT / "tests/mutation/modules.toml").read_text("utf-8"))["module"]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module["file"])
def test_a_mutated_module_and_its_tests_exist(module):
    paths = [module["file"], *(path for path in module["tests"] if path.endswith(".py"))]
    assert [path for path in paths if not (ROOT / path).is_file()] == []
    source = (ROOT / module["file"]).read_text("utf-8")
    names = module.get("functions", [])
    assert [name for name in names if f"def {name}(" not in source and f"class {name}" not in source] == []
