"""The memory limit of the container."""

import math

import pytest

from k2.ingest.memory import memory_limit


@pytest.mark.parametrize(("text", "limit"), [("536870912\n", 536_870_912.0), ("max\n", math.inf)])
def test_the_memory_limit_is_the_containers(tmp_path, text, limit):
    file = tmp_path / "memory.max"
    file.write_text(text)
    assert memory_limit((str(tmp_path / "absent"), str(file))) == limit


def test_without_a_container_memory_is_not_limited(tmp_path):
    assert memory_limit((str(tmp_path / "absent"),)) == math.inf
