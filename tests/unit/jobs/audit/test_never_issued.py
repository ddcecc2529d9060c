"""A verdict that ids were never issued holds with its evidence, and is reported once it is revoked."""

from dataclasses import replace

import pytest

from k2.jobs.audit.completeness.hours import Gap
from k2.jobs.audit.completeness.never_issued import by_symbol, problem, revoked
from k2.schemas.states import REVOKED_IN_PART, GapState

GAP = Gap("BTCUSDT", 5, 9, "never_issued", "rest: 1 ids were never issued", ((7, 7),), ("a", "b"))


@pytest.mark.parametrize(
    ("evidence", "check", "named"),
    [
        ({"a": True, "b": True}, None, ""),
        ({"a": True}, "evidence_missing", "lacks b"),
        ({}, "evidence_missing", "lacks a, b"),
        ({"a": False, "b": True}, "evidence_mismatch", "the body of a has"),
    ],
)
def test_each_answer_that_a_verdict_cites_must_stand(evidence, check, named):
    answer = problem(GAP, evidence)
    assert (answer and answer.check) == check
    assert answer is None or named in answer.text


def test_a_verdict_without_evidence_is_a_problem_and_other_states_need_none():
    assert problem(replace(GAP, evidence=()), {}).check == "evidence_missing"
    for state in set(GapState) - {GapState.NEVER_ISSUED}:
        assert problem(replace(GAP, state=state.value), {}) is None


def test_the_ids_of_all_verdicts_of_a_symbol_count():
    other = replace(GAP, symbol="ETHUSDT", missing=())  # of an older version: the whole gap
    assert by_symbol([GAP, replace(GAP, missing=((1, 2), (4, 4))), other]) == {
        "BTCUSDT": [(7, 7), (1, 2), (4, 4)], "ETHUSDT": [(5, 9)],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "texts"),
    [
        ({}, []),
        ({"state": "repaired"}, ["BTCUSDT: all of the gap 5 to 9"]),
        ({"state": "repaired", "evidence": ()}, []),
        ({"state": "unrecoverable"}, []),
        ({"resolution": REVOKED_IN_PART}, ["BTCUSDT: some of the gap 5 to 9"]),
    ],
)
def test_only_revoked_verdicts_are_reported_as_revoked(changes, texts):
    assert list(revoked([replace(GAP, **changes)])) == texts
