"""An id is absent by two answers, ten minutes apart, and only if no answer in between is without that."""

from k2.ingest.backfill.absence import APART, Absence, Answer, between

FIRST, SECOND, THIRD = (Answer("GET /", number, b"%d" % number) for number in range(3))


def test_an_absence_is_proved_by_the_first_and_the_newest_answer():
    absence = Absence()
    assert absence.observe([((5, 9), FIRST)], 0.0) == {}
    assert absence.observe([((5, 9), SECOND)], APART - 1) == {}
    assert absence.observe([((5, 9), THIRD)], APART) == {(5, 9): (FIRST, THIRD)}


def test_an_absence_that_an_answer_does_not_repeat_counts_from_its_return():
    absence = Absence()
    absence.observe([((5, 5), FIRST)], 0.0)
    assert absence.observe([], 100.0) == {}
    assert absence.observe([((5, 5), SECOND)], APART + 50) == {}
    assert absence.observe([((5, 5), THIRD)], 2 * APART + 50) == {(5, 5): (SECOND, THIRD)}


def test_only_a_range_that_was_absent_as_a_whole_is_proved():
    absence = Absence()
    absence.observe([((5, 7), FIRST)], 0.0)
    assert absence.observe([((6, 9), SECOND)], APART) == {}
    absence = Absence()
    absence.observe([((5, 7), FIRST)], 0.0)
    assert absence.observe([((6, 6), SECOND)], APART) == {(6, 6): (FIRST, SECOND)}


def test_what_is_proved_is_due_no_more():
    absence = Absence()
    assert absence.due(0.0) is None
    absence.observe([((5, 5), FIRST)], 0.0)
    assert absence.due(100.0) == APART - 100
    absence.observe([((5, 5), SECOND), ((8, 8), SECOND)], APART)
    assert absence.due(APART) == APART


def test_what_lies_between_rows_is_absent_whatever_their_order():
    assert between([(9, 9), (1, 2), (4, 4), (5, 5)]) == [(3, 3), (6, 8)]
    assert between([]) == between([(7, 7)]) == []
