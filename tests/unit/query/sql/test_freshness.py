import json
from datetime import UTC, datetime, timedelta
from math import isnan

from k2.query.engine import Engine
from k2.query.sql.freshness import freshness
from tests.unit.query.conftest import NOON, Append, trade


def test_freshness_runs_from_the_socket_to_the_commit(engine: Engine, append: Append) -> None:
    now = datetime.now(UTC)
    backfill = json.dumps({"source": "backfill"})
    append(
        [
            trade(1, ingestion_timestamp=now - timedelta(seconds=10)),
            trade(2, ingestion_timestamp=now - timedelta(seconds=30)),
            trade(3, ingestion_timestamp=now - timedelta(hours=5), vendor_data=backfill),
        ]
    )
    result = freshness(engine.catalog, now - timedelta(minutes=1))
    committed = engine.snapshots().column("committed_at").to_pylist()[0]
    late = (committed - now).total_seconds()
    assert result.rows == 2
    assert abs(result.p50 - 20 - late) < 0.001
    assert abs(result.p99 - 29.8 - late) < 0.001


def test_only_commits_since_then_count(engine: Engine, append: Append) -> None:
    append([trade(1)])
    committed = engine.snapshots().column("committed_at").to_pylist()[0]
    append([trade(2), trade(3)])
    assert freshness(engine.catalog, committed + timedelta(milliseconds=1)).rows == 2
    assert freshness(engine.catalog, NOON).rows == 3
    none = freshness(engine.catalog, datetime.now(UTC) + timedelta(hours=1))
    assert none.rows == 0
    assert isnan(none.p50)
