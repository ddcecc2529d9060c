"""Verdicts: the chain, the causes of revisions, and what differs from a verdict."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from k2.jobs.audit.completeness.hours import HourCompleteness
from k2.jobs.audit.verdicts import verdict
from k2.jobs.audit.verdicts.chain import Chain
from k2.jobs.audit.verdicts.verdict import LayerDigests, new_row
from k2.schemas.digests import Digest
from k2.schemas.tables import COMPLETENESS_TABLE
from k2.schemas.values import to_micros

HOUR = datetime(2026, 3, 2, 10, tzinfo=UTC)
AT = to_micros(HOUR)
BTC = HourCompleteness("BINANCE", "trades", "BTCUSDT", HOUR, "1", "3", 3, 3, (), {"live": 3}, "complete")
THREE = LayerDigests(
    {"bronze": Digest(3, 7), "silver": Digest(3, 8), "gold": Digest(3, 9), "leaves": Digest(3, 10)}, (("t", 0, 0, 2),)
)


def _row(hour: HourCompleteness = BTC, layers: LayerDigests = THREE, checked_at: int = AT) -> dict:
    return new_row(hour, layers, 5, checked_at)


def _with(layer: str, digest: Digest, last: int = 2) -> LayerDigests:
    return LayerDigests({**THREE.digests, layer: digest}, (("t", 0, 0, last),))


def _three_verdicts() -> list[dict]:
    chain = Chain()
    hours = [replace(BTC, state="open"), BTC, replace(BTC, hour=HOUR.replace(hour=11))]
    return [chain.append(_row(hour, checked_at=AT + index)) for index, hour in enumerate(hours)]


def test_a_verdict_has_every_column_of_the_table_and_its_hash_covers_all_of_them():
    row = Chain().append(_row())
    assert set(row) == set(COMPLETENESS_TABLE.column_names) == set(verdict.HASHED)
    hashes = {verdict.verdict_hash(row)}
    changed = {
        "hour": 1, "expected": 4, "actual": 4, "gold_snapshot_id": 6, "checked_at": 1, "revision": 2,
        "missing": [{"first_id": "1", "last_id": "2"}], "never_issued": [{"first_id": "1", "last_id": "2"}],
        "by_source": {"live": 2}, "offsets": [], "seconds": {"verified": 3600},
    }  # fmt: skip
    hashes |= {verdict.verdict_hash(row | {name: changed.get(name, "other")}) for name in verdict.HASHED}
    assert len(hashes) == len(verdict.HASHED) + 1


def test_each_verdict_of_a_symbol_names_the_one_before():
    first, second, third = _three_verdicts()
    assert [row["cause"] for row in (first, second, third)] == ["first", "closed", "first"]
    assert [row["revision"] for row in (first, second, third)] == [1, 2, 1]
    assert first["previous_digest"] is None
    assert second["previous_digest"] == verdict.verdict_hash(first)
    assert third["previous_digest"] == verdict.verdict_hash(second)
    other = Chain()
    other.append(_row())
    assert other.append(_row(replace(BTC, symbol="ETHUSDT")))["previous_digest"] is None


def test_a_chain_that_was_read_goes_on():
    rows = _three_verdicts()
    chain = Chain(rows)
    assert chain.doubtful({}) == {}
    assert chain.append(_row(replace(BTC, hour=HOUR.replace(hour=11)))) is None
    late = chain.append(_row(layers=_with("gold", Digest(4, 1))))
    assert (late["revision"], late["previous_digest"]) == (3, verdict.verdict_hash(rows[2]))


def _judged(rows) -> dict:
    """Return the rows that verdicts of today would be: those in force."""
    return {(row["symbol"], row["hour"]): row for row in rows}


def test_a_changed_verdict_is_named_itself_and_not_the_one_after_it():
    first, second, third = rows = _three_verdicts()
    judged = _judged(rows)
    early, late = ("BTCUSDT", AT), ("BTCUSDT", to_micros(HOUR.replace(hour=11)))
    assert Chain([first | {"actual": 2}, second, third]).doubtful(judged) == {early: "verdict 1 was changed"}
    for name, value in (("digest_gold", str(Digest())), ("checked_at", AT - 9), ("cause", "late")):
        chain = Chain([first, second | {name: value}, third])
        assert chain.doubtful(judged) == {early: "verdict 2 was changed"}, name
    # Nothing names the newest one; if it names another one itself, that is seen.
    assert Chain([first, second, third | {"actual": 2}]).doubtful(judged) == {}
    assert set(Chain([first, second, third | {"previous_digest": None}]).doubtful(judged)) <= {early, late}


def test_a_deleted_verdict_is_named_by_its_revision_or_by_its_hour():
    first, second, third = rows = _three_verdicts()
    chain = Chain(rows)
    fourth = chain.append(_row(replace(BTC, hour=HOUR.replace(hour=12)), checked_at=to_micros(HOUR.replace(hour=13))))
    judged = _judged([*rows, fourth])
    early, late = ("BTCUSDT", AT), ("BTCUSDT", to_micros(HOUR.replace(hour=11)))
    assert Chain([second, third, fourth]).doubtful(judged) == {early: "verdict 1 was deleted"}
    assert Chain([first, second, fourth]).doubtful(judged) == {late: "its verdict was deleted"}
    assert Chain([first, third, fourth]).doubtful(judged) == {early: "verdict 1 was changed"}  # it looks the same
    assert Chain([third, fourth]).doubtful({late: third}) == {late: "the verdict before verdict 1 was deleted"}


def test_what_altered_rows_were_is_where_the_chain_goes_on():
    first, second, third = rows = _three_verdicts()
    late = third["symbol"], third["hour"]
    for present in ([first, second], [first, second, third | {"actual": 2}]):
        forged = [row for row in present if row not in rows]
        chain = Chain(present, [third], forged)
        assert (chain.doubtful(_judged(rows)), chain.altered) == ({}, {late})
        fourth = chain.append(
            _row(replace(BTC, hour=HOUR.replace(hour=12)), checked_at=to_micros(HOUR.replace(hour=13)))
        )
        assert fourth["previous_digest"] == verdict.verdict_hash(third)
        # Once nothing else tells any more that it was altered, the chain does.
        assert set(Chain([*present, fourth]).doubtful(_judged([*rows, fourth]))) == {late}
        assert Chain([*rows, fourth]).doubtful(_judged([*rows, fourth])) == {}


def test_a_part_of_a_chain_may_begin_in_the_middle_and_goes_on_from_what_was_not_read():
    rows = _three_verdicts()
    part = Chain(rows[1:], partial=True)
    assert (part.breaks, part.symbols_without_end(["BTCUSDT", "ETHUSDT"])) == ([], ["ETHUSDT"])
    assert Chain(rows[::2], partial=True).breaks != []
    eth = Chain().append(_row(replace(BTC, symbol="ETHUSDT")))
    part.go_on_from([eth])
    later = part.append(_row(replace(BTC, symbol="ETHUSDT", hour=HOUR.replace(hour=11)), checked_at=AT + 9))
    assert later["previous_digest"] == verdict.verdict_hash(eth)
    assert Chain(rows).symbols_without_end(["ETHUSDT"]) == []  # all were read


def test_two_audits_at_the_same_time_break_no_chain():
    first, second, _ = _three_verdicts()
    fork = second | {"checked_at": AT + 9}
    eth = Chain().append(_row(replace(BTC, symbol="ETHUSDT")))
    assert Chain([first, second, fork, eth]).breaks == []
    assert Chain([eth, first | {"previous_digest": verdict.verdict_hash(eth)}]).breaks != []


@pytest.mark.parametrize(
    ("hour", "layers", "cause"),
    [
        (BTC, THREE, None),
        (replace(BTC, by_source={"live": 4}), _with("gold", Digest(4, 1), 3), "late"),
        (BTC, _with("silver", Digest(4, 1), 3), "late"),
        (BTC, LayerDigests({**THREE.digests, "silver": Digest(4, 1)}, (("t", 0, 0, 2), ("t", 1, 0, 0))), "late"),
        (replace(BTC, by_source={"live": 3, "backfill": 1}), _with("gold", Digest(4, 1), 3), "repaired"),
        (replace(BTC, by_source={"live": 4}), _with("silver", Digest(4, 1)), "redriven"),
        (replace(BTC, never_issued=((4, 4),)), THREE, "never_issued"),
        (replace(BTC, state="incomplete"), THREE, "rejudged"),
        (BTC, _with("gold", Digest(3, 1)), "rejudged"),
    ],
)
def test_a_revision_names_its_cause(hour, layers, cause):
    earlier = Chain().append(_row())
    assert verdict.cause(earlier, _row(hour, layers)) == cause


def test_what_a_rebuild_has_changed_is_named_so_and_what_it_has_not_needs_no_verdict():
    chain = Chain()
    chain.append(_row())
    assert chain.append(_row(), rebuilt=True) is None
    changed = chain.append(_row(layers=_with("gold", Digest(3, 1))), rebuilt=True)
    assert (changed["cause"], changed["revision"]) == ("rebuilt", 2)


def test_ids_that_came_after_all_revoke_a_verdict():
    earlier = Chain().append(_row(replace(BTC, never_issued=((4, 4),))))
    assert verdict.cause(earlier, _row(layers=_with("gold", Digest(4, 1)))) == "revoked"


def test_an_open_hour_that_grew_is_still_open():
    earlier = Chain().append(_row(replace(BTC, state="open")))
    assert verdict.cause(earlier, _row(replace(BTC, state="open"), _with("gold", Digest(4, 1)))) == "open"


def test_a_new_snapshot_or_time_alone_is_no_reason_for_a_verdict():
    earlier = Chain().append(_row())
    assert verdict.cause(earlier, new_row(BTC, THREE, 99, AT + 1)) is None


def test_a_changed_hour_keeps_the_digests_of_its_verdict_with_another_state():
    chain = Chain()
    earlier = chain.append(_row())
    now = _row(replace(BTC, state="incomplete"), LayerDigests({"gold": Digest(2, 1)}))
    revised = chain.append(verdict.with_digests_of(earlier, now, verdict.DIGESTS))
    assert (revised["cause"], revised["state"], revised["revision"]) == ("rejudged", "incomplete", 2)
    names = ("offsets", "digest_bronze", "digest_silver", "digest_gold", "digest_leaves")
    assert [revised[name] for name in names] == [earlier[name] for name in names]
    assert verdict.with_digests_of(earlier, now, []) == now


def test_every_layer_of_a_closed_hour_is_compared_with_its_verdict():
    closed = Chain().append(_row())
    everything = {"bronze": 0, "silver": 0, "gold": 0}
    assert verdict.changes([closed], {("BTCUSDT", AT): THREE}, everything) == []
    (change,) = verdict.changes([closed], {("BTCUSDT", AT): _with("silver", Digest(3, 1))}, everything)
    assert (change.layer, change.symbol, change.hour) == ("silver", "BTCUSDT", AT)
    assert change.text == "3 rows with other values than in verdict 1"
    gone = verdict.changes([closed], {}, everything)
    assert [change.text for change in gone] == ["0 rows, and 3 in verdict 1"] * 3
    assert verdict.changes([closed], {}, {"bronze": AT + 1, "silver": AT}) == [gone[1]]
    assert verdict.changes([closed | {"state": "open"}], {}, everything) == []


@pytest.mark.parametrize("falsified", [{"digest_gold": "x"}, {"digest_bronze": None}, {"by_source": None}])
def test_a_verdict_with_values_that_none_has_is_broken_and_judges_nothing(falsified: dict):
    first, second, third = _three_verdicts()
    chain = Chain([first, second, third | falsified])
    assert set(chain.doubtful({})) == {("BTCUSDT", third["hour"])}
    assert set(chain.newest) == {("BTCUSDT", AT)}
