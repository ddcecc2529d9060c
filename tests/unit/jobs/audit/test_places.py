"""Offsets of findings by symbol and hour."""

from k2.jobs.audit.offsets.places import NOWHERE, grouped

HOUR = 3_600_000_000


def test_offsets_are_grouped_by_the_symbol_and_hour_of_their_rows():
    rows = [
        (3, "BTC", HOUR + 5),
        (4, "BTC", HOUR + 6),
        (6, "BTC", 2 * HOUR - 1),
        (5, "ETH", HOUR),
        (7, "BTC", 2 * HOUR),
    ]
    assert grouped([(3, 7)], rows) == {
        ("BTC", HOUR): [(3, 4), (6, 6)], ("BTC", 2 * HOUR): [(7, 7)], ("ETH", HOUR): [(5, 5)],
    }  # fmt: skip


def test_offsets_without_a_row_stay_in_a_finding_without_a_place():
    assert grouped([(3, 4), (9, 9)], [(4, "BTC", 0)]) == {("BTC", 0): [(4, 4)], NOWHERE: [(3, 3), (9, 9)]}
    assert grouped([(3, 4)], []) == {NOWHERE: [(3, 4)]}
