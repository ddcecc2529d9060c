"""The embedded broker's storage."""

import uuid
from pathlib import Path

import pytest

from k2.cli.embedded import broker
from k2.jobs.spark.jvm.java import find_java

pytestmark = pytest.mark.system


def test_a_cluster_id_may_begin_with_a_dash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(uuid, "uuid4", lambda: uuid.UUID(bytes=b"\xf8" * 16))
    broker.prepare(find_java(), tmp_path, 19092, 19093)
    assert "cluster.id=-" in (tmp_path / "data" / "meta.properties").read_text()
