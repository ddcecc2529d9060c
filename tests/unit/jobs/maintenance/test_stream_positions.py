"""How much of a table's history its readers need."""

from k2.jobs.commit.snapshots import Snapshot
from k2.jobs.maintenance.stream_positions import Reader, rebuilds, snapshots_needed

NEWEST_FIRST = [Snapshot(number, number - 1, float(number), "append", {}, number) for number in (5, 4, 3, 2, 1)]


def test_a_rebuild_needs_what_was_committed_since_its_base_and_other_tags_nothing():
    refs = {"main": 5, "before-rebuild-20260301T140000": 1, "audit-2026-03-01T14-00-00-000001": 1}
    assert snapshots_needed(rebuilds(refs), NEWEST_FIRST) == (0, "")
    name = "rebuild-2026-03-01T14-00-00-000001"
    assert snapshots_needed(rebuilds(refs | {name: 3}), NEWEST_FIRST) == (3, name)


def test_a_reader_needs_the_snapshot_after_which_it_resumes_or_all_before_its_first_and_of_another_table_none():
    assert Reader("gold", 2, 4).snapshots_needed(NEWEST_FIRST) == 4
    assert Reader("gold", -1, 4).snapshots_needed(NEWEST_FIRST) == 5
    assert Reader("gold", 12, 14).snapshots_needed(NEWEST_FIRST) == 0
    assert snapshots_needed([Reader("one", 4, 4), Reader("other", 2, 2)], NEWEST_FIRST) == (4, "other")
