"""Backup and restore of a folder: files, hashes, another path, and what is refused. No platform runs."""

import json
import shutil
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from k2.cli.backup import backup as backups
from k2.cli.backup.backup import Refused
from k2.cli.embedded import integrity, state
from k2.cli.embedded.layout import Layout
from k2.cli.embedded.schema_store import SchemaStore
from k2.cli.main import app
from k2.query.engine import Engine
from k2.query.iceberg import catalog, tables
from k2.schemas.codecs import avro
from k2.schemas.records.trade import message_id
from k2.schemas.tables import GOLD_TABLE

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
Fill = Callable[[Path], Layout]


def _rows(first: int, last: int) -> list[dict]:
    times = {number: NOON + timedelta(seconds=number) for number in range(first, last + 1)}
    return [
        {
            "message_id": str(message_id("BINANCE", "BTCUSDT", str(number))), "trade_id": str(number),
            "symbol": "BTCUSDT", "exchange": "BINANCE", "base_asset": "BTC", "quote_currency": "USDT",
            "timestamp": at, "price": Decimal(100), "quantity": Decimal(1), "side": "BUY",
            "ingestion_timestamp": at, "vendor_data": "{}", "gold_ingestion_timestamp": at,
            "exchange_date": at.date(), "exchange_hour": at.hour,
        }
        for number, at in times.items()
    ]  # fmt: skip


def append(layout: Layout, first: int, last: int) -> None:
    with closing(catalog.connect(layout.platform(), create=True)) as opened:
        (gold,) = tables.ensure(opened, [GOLD_TABLE])
        gold.append(pa.Table.from_pylist(_rows(first, last), schema=gold.schema().as_arrow()))


def filled(root: Path) -> Layout:
    """Return a stopped platform with two commits in Gold, a schema, and a file of each other part."""
    layout = Layout.at(root)
    layout.root.mkdir(parents=True)
    append(layout, 1, 3)
    append(layout, 4, 5)
    SchemaStore(layout.registry).register("one-value", avro.text())
    for name in ("kafka/data/one-0/0.log", "checkpoints/binance/trades/silver/v2/starts", "feeds/binance.yaml"):
        (layout.root / name).parent.mkdir(parents=True, exist_ok=True)
        (layout.root / name).write_text(name)
    (layout.root / "logs").mkdir()
    state.save(layout.state, state.State(ports={"kafka": 9999}, feeds=["binance"], simulated_since=7.0))
    return layout


def ids(layout: Layout, as_of: int | None = None) -> list[int]:
    with closing(Engine(layout.platform())) as engine:
        rows = engine.sql("SELECT trade_id FROM gold_crypto_trades ORDER BY 1", as_of=as_of).to_pylist()
    return [int(row["trade_id"]) for row in rows]


def test_a_backup_restores_to_another_path_with_all_its_history(tmp_path: Path):
    layout = filled(tmp_path / "first" / ".k2")
    backups.create(layout, tmp_path / "backup")
    with closing(Engine(layout.platform())) as engine:
        oldest = engine.snapshots().to_pylist()[0]["snapshot_id"]
    shutil.rmtree(layout.root)
    restored = Layout.at(tmp_path / "second" / "it's .k2")
    backups.restore(tmp_path / "backup", restored)
    assert ids(restored) == [1, 2, 3, 4, 5]
    with closing(Engine(restored.platform())) as engine:
        assert engine.sql("SELECT count(*) AS n FROM gold_crypto_trades", as_of=int(oldest)).to_pylist() == [{"n": 3}]
    append(restored, 6, 6)
    assert ids(restored) == [1, 2, 3, 4, 5, 6]
    assert (restored.root / "kafka/data/one-0/0.log").read_text() == "kafka/data/one-0/0.log"
    assert not (restored.root / "logs").exists()
    before = state.load(restored.state)
    assert (before.ports, before.feeds, before.simulated_since) == ({"kafka": 9999}, ["binance"], 7.0)
    texts = [
        path.read_bytes() for path in (restored.root / "warehouse").rglob("*") if path.suffix in {".json", ".avro"}
    ]
    assert all(b"first/.k2" not in text for text in texts)


def test_a_backup_restores_to_its_own_path_unchanged(tmp_path: Path):
    layout = filled(tmp_path / ".k2")
    before = sorted(path.read_bytes() for path in (layout.root / "warehouse").rglob("*") if path.is_file())
    backups.create(layout, tmp_path / "backup")
    shutil.rmtree(layout.root)
    backups.restore(tmp_path / "backup", layout)
    assert sorted(path.read_bytes() for path in (layout.root / "warehouse").rglob("*") if path.is_file()) == before
    assert ids(layout) == [1, 2, 3, 4, 5]


def test_a_part_of_an_older_backup_is_refused_and_named(tmp_path: Path):
    layout = filled(tmp_path / ".k2")
    backups.create(layout, tmp_path / "older")
    append(layout, 6, 6)
    backups.create(layout, tmp_path / "newer")
    shutil.rmtree(tmp_path / "newer/warehouse")
    shutil.copytree(tmp_path / "older/warehouse", tmp_path / "newer/warehouse")
    with pytest.raises(Refused, match=r"catalog\.db is newer than warehouse: gold_crypto_trades needs"):
        backups.restore(tmp_path / "newer", Layout.at(tmp_path / "restored"))
    assert not (tmp_path / "restored").exists()
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_a_part_that_was_changed_since_is_refused_and_named(tmp_path: Path):
    layout = filled(tmp_path / ".k2")
    backups.create(layout, tmp_path / "backup")
    (tmp_path / "backup/kafka/data/one-0/0.log").write_text("other")
    (tmp_path / "backup/feeds/binance.yaml").unlink()
    with pytest.raises(Refused) as refused:
        backups.restore(tmp_path / "backup", Layout.at(tmp_path / "restored"))
    lines = str(refused.value).splitlines()
    assert [line.partition(" is not")[0] for line in lines] == ["kafka", "feeds"]
    assert "kafka/data/one-0/0.log differ" in lines[0]
    assert not (tmp_path / "restored").exists()


def test_a_folder_with_files_is_never_overwritten(tmp_path: Path):
    layout = filled(tmp_path / ".k2")
    backups.create(layout, tmp_path / "backup")
    with pytest.raises(Refused, match="is not empty"):
        backups.restore(tmp_path / "backup", layout)
    with pytest.raises(Refused, match="exists"):
        backups.create(layout, tmp_path / "backup")
    (tmp_path / "empty").mkdir()
    backups.restore(tmp_path / "backup", Layout.at(tmp_path / "empty"))
    assert ids(Layout.at(tmp_path / "empty")) == [1, 2, 3, 4, 5]


def test_a_running_platform_is_not_backed_up(tmp_path: Path):
    layout = filled(tmp_path / ".k2")
    with integrity.lock(layout):
        done = CliRunner().invoke(app, ["backup", str(tmp_path / "backup"), "--data", str(layout.root)])
    assert done.exit_code == 2
    assert "stop it with k2 down" in done.stderr
    assert not (tmp_path / "backup").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (None, "is no backup: it has no backup.json"),
        ({"version": 9}, "is of version 9"),
        ({"format": 1}, "format"),
        ({"parts": 3}, "cannot be read"),
    ],
)
def test_what_is_no_backup_of_this_version_is_refused(tmp_path: Path, change: dict | None, message: str):
    backups.create(filled(tmp_path / ".k2"), tmp_path / "backup")
    manifest = tmp_path / "backup" / backups.MANIFEST
    if change is None:
        manifest.unlink()
    else:
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | change))
    done = CliRunner().invoke(app, ["restore", str(tmp_path / "backup"), "--data", str(tmp_path / "restored")])
    assert done.exit_code == 2
    assert message in done.stderr
    assert not (tmp_path / "restored").exists()


def test_a_folder_whose_parts_do_not_belong_together_is_not_backed_up(tmp_path: Path):
    layout = filled(tmp_path / ".k2")
    shutil.rmtree(layout.root / "warehouse")
    with pytest.raises(Refused, match=r"nothing was backed up\ncatalog\.db is newer than warehouse"):
        backups.create(layout, tmp_path / "backup")
    assert not (tmp_path / "backup").exists()
