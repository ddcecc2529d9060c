"""With the existing Secrets that the documentation lists, a chart renders to the same text each time."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.charts.rendering import needs_helm, template

pytestmark = needs_helm

_PAGE = Path(__file__).parents[2] / "docs/how-to/install-operator.md"


def _documented() -> dict[str, Any]:
    section = _PAGE.read_text().partition("\n## GitOps tools\n")[2].partition("\n## ")[0]
    values: dict[str, Any] = yaml.safe_load(section.partition("```yaml\n")[2].partition("```")[0])
    return values


def _without(values: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    first, *rest = path
    if rest:
        return values | {first: _without(values[first], tuple(rest))}
    return {name: value for name, value in values.items() if name != first}


def _existing(values: dict[str, Any], path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Return the paths of the values that name an existing Secret."""
    paths = []
    for name, value in values.items():
        paths += _existing(value, (*path, name)) if isinstance(value, dict) else [(*path, name)]
    return [each for each in paths if each[-1] == "existingSecret"]


@pytest.mark.parametrize("chart", ["k2-platform", "k2-operator"])
def test_two_renderings_are_the_same(chart: str):
    values = _documented() if chart == "k2-platform" else {}
    assert template(chart, values=values) == template(chart, values=values)


@pytest.mark.parametrize("path", _existing(_documented()), ids=".".join)
def test_each_of_the_secrets_is_needed_for_that(path: tuple[str, ...]):
    values = _without(_documented(), path)
    assert template("k2-platform", values=values) != template("k2-platform", values=values)
