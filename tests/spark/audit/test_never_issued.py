"""Ids that an exchange never issued: accounted for by evidence, and only by evidence."""

import hashlib
import json
from datetime import timedelta
from types import SimpleNamespace

import pytest

from k2.jobs.audit import runner
from k2.jobs.layers.gaps import GapsLayer
from k2.jobs.spark.local_frames import local_frame
from k2.schemas import topics
from k2.schemas.states import REVOKED_IN_PART
from k2.schemas.tables import COMPLETENESS_TABLE, EVIDENCE_TABLE, GAPS_TABLE
from tests.spark.builders import HOUR, Lake, consecutive, trade
from tests.spark.saved_lakes import prepared

pytestmark = pytest.mark.spark

BODIES = ('[{"id":2},{"id":5}]', '[{"id":2},{"id":5} ]')
KEYS = [hashlib.sha256(body.encode()).hexdigest() for body in BODIES]
LATER = HOUR + timedelta(hours=2)


def _evidence(body: str, received: str, key: str | None = None) -> tuple[str, str, str]:
    value = {"request": "GET /trades?fromId=2", "status": 200, "received_at": received, "body": body}
    return topics.evidence("binance"), key or hashlib.sha256(body.encode()).hexdigest(), json.dumps(value)


def _gap(state: str, **fields: object) -> tuple[str, str, str]:
    event = {
        "gap_id": "g", "feed": "binance", "channel": "trades", "symbol": "BTCUSDT", "first_id": "3", "last_id": "4",
        "detected_at": "2026-03-02T10:00:00Z", "resolved_at": "2026-03-02T10:20:00Z", "state": state,
    }  # fmt: skip
    return topics.gaps("binance"), "BTCUSDT", json.dumps(event | fields)


def _commit(lake: Lake, *records: tuple[str, str, str]) -> None:
    """Commit one batch of the two topics."""
    rows = [
        {"topic": topic, "key": key.encode(), "value": value.encode(), "offset": offset}
        for offset, (topic, key, value) in enumerate(records)
    ]
    frame = local_frame(lake.spark, rows, "topic string, key binary, value binary, offset bigint")
    GapsLayer("binance", "binance", "BINANCE").commit(SimpleNamespace(rows=frame))


ANSWERS = (_evidence(BODIES[0], "2026-03-02T10:05:00Z"), _evidence(BODIES[1], "2026-03-02T10:15:00.000001Z"))
VERDICT = _gap("never_issued", missing=[[3, 4]], evidence=",".join(KEYS), resolution="rest: 2 ids were never issued")


def _filled(lake: Lake):
    return prepared(lake, _fill)


def _fill(lake: Lake):
    """Trades 1, 2, 5 and 6 in all layers, and the verdict on 3 and 4."""
    feed = lake.feed()
    lake.arrive(feed, [*consecutive(1, 2), *consecutive(5, 6)])
    lake.run(feed, "silver", "gold")
    _commit(lake, *ANSWERS, VERDICT)
    return feed


def _audit(lake: Lake):
    """Return the checks of the findings, the trades' report, and the hour in audit_completeness."""
    report = runner.audit(lake.spark, lake.platform, now=LATER)
    verdicts = lake.table(COMPLETENESS_TABLE).orderBy("revision", ascending=False)
    hour = verdicts.select("expected", "actual", "missing", "never_issued", "state").first()
    ranges = ([(ids["first_id"], ids["last_id"]) for ids in hour[name]] for name in ("missing", "never_issued"))
    counted = (hour["expected"], hour["actual"], *ranges, hour["state"])
    return [finding.check for finding in report.findings], report.exchanges["BINANCE"]["trades"], counted, report.text()


COMPLETE = (4, 4, [], [("3", "4")], "complete")
INCOMPLETE = (6, 4, [("3", "4")], [], "incomplete")


def test_ids_that_were_never_issued_are_accounted_for_as_long_as_their_evidence_stands(lake: Lake):
    _filled(lake)
    checks, numbers, hour, text = _audit(lake)
    assert (checks, hour, numbers.revoked) == ([], COMPLETE, [])
    assert numbers.gaps == {"never_issued": 1}
    assert numbers.completeness["symbols"][0]["never_issued"] == [[3, 4]]
    assert "balanced" in text
    lake.sql(f"UPDATE {{}} SET body = concat(body, ' ') WHERE evidence_id = '{KEYS[1]}'", EVIDENCE_TABLE)
    assert _audit(lake)[0::2] == (["evidence_mismatch", "missing_ids"], INCOMPLETE)
    lake.sql(f"DELETE FROM {{}} WHERE evidence_id = '{KEYS[1]}'", EVIDENCE_TABLE)
    checks, _, hour, text = _audit(lake)
    assert (checks, hour) == (["evidence_missing", "missing_ids"], INCOMPLETE)
    assert f"BINANCE BTCUSDT: ids of 3 to 4 are listed as never issued, but audit_evidence lacks {KEYS[1]}" in text
    _commit(lake, *ANSWERS)  # as the topic still has them
    assert _audit(lake)[0::2] == ([], COMPLETE)
    lake.sql("UPDATE {} SET evidence = NULL", GAPS_TABLE)
    assert _audit(lake)[0::2] == (["evidence_missing", "missing_ids"], INCOMPLETE)


def test_an_id_that_came_after_all_is_reported_and_never_a_finding(lake: Lake):
    feed = _filled(lake)
    lake.arrive(feed, [trade(3)])
    lake.run(feed, "silver", "gold")
    checks, numbers, hour, text = _audit(lake)  # the trade is in Gold before the event of the gap is in its table
    assert (checks, hour) == ([], (5, 5, [], [("4", "4")], "complete"))
    assert numbers.revoked == ["BINANCE BTCUSDT: id 3, which audit_gaps still lists"]
    assert "never issued, and came after all:\n  BINANCE BTCUSDT: id 3" in text
    _commit(lake, _gap("never_issued", missing=[[4, 4]], evidence=",".join(KEYS), resolution=REVOKED_IN_PART))
    checks, numbers, hour, _ = _audit(lake)
    assert (checks, hour) == ([], (5, 5, [], [("4", "4")], "complete"))
    assert numbers.revoked == ["BINANCE BTCUSDT: some of the gap 3 to 4"]
    lake.arrive(feed, [trade(4)])
    lake.run(feed, "silver", "gold")
    _commit(lake, _gap("repaired", evidence=",".join(KEYS), resolution="late; it had been judged as never issued"))
    checks, numbers, hour, _ = _audit(lake)
    assert (checks, hour) == ([], (6, 6, [], [], "complete"))
    assert numbers.revoked == ["BINANCE BTCUSDT: all of the gap 3 to 4"]


def test_every_answer_is_stored_once_as_it_was_received(lake: Lake):
    lake.feed()
    again = _evidence(BODIES[0], "2026-03-02T10:30:00Z")  # the same answer, half an hour later
    topic = topics.evidence("binance")
    unreadable = [(topic, "k", "{"), (topic, "k", "{}"), (topics.evidence("kraken"), KEYS[0], ANSWERS[0][2])]
    for _ in range(2):
        _commit(lake, *ANSWERS, again, *ANSWERS, *unreadable)
    rows = lake.table(EVIDENCE_TABLE).selectExpr(
        "evidence_id", "exchange", "request", "status", "unix_micros(received_at) AS at", "body"
    )
    start = int(HOUR.timestamp()) * 1_000_000
    expected = [(0, 300_000_000), (0, 1_800_000_000), (1, 900_000_001)]
    assert sorted(map(tuple, rows.collect()), key=lambda row: (KEYS.index(row[0]), row[4])) == [
        (KEYS[body], "BINANCE", "GET /trades?fromId=2", 200, start + at, BODIES[body]) for body, at in expected
    ]
