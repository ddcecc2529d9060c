"""The history that maintenance retains: bounded in size, and long enough to travel back for a week."""

from bisect import bisect_right
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from k2.jobs.commit.snapshots import Snapshot
from k2.jobs.maintenance import history, tags
from k2.jobs.maintenance.history import MIN_SNAPSHOTS
from k2.schemas.snapshots import EPOCH, EXCHANGE, QUERY

START = datetime(2026, 3, 1, tzinfo=UTC)
EXCHANGES = ("BINANCE", "KRAKEN", "COINBASE", "BYBIT", "OKX")


def _commit(number: int, at: datetime, exchange: str = "BINANCE", payload: int = 2800) -> Snapshot:
    summary = {EXCHANGE: exchange, QUERY: exchange, EPOCH: str(number), "k2.offsets": "0" * payload}
    return Snapshot(number, number - 1, at.timestamp(), "append", summary, number)


def _commits(count: int, **properties: int) -> list[Snapshot]:
    """Return commits a second apart, newest first."""
    return [_commit(number, START + timedelta(seconds=number), **properties) for number in reversed(range(count))]


def test_old_snapshots_expire_but_the_newest_those_of_readers_and_the_newest_of_each_query_do_not():
    commits = _commits(400)
    commits.append(_commit(-1, START - timedelta(days=1), "KRAKEN"))
    later = START.timestamp() + 1000
    assert [one.id for one in history.too_old(commits, 0, later)] == list(range(399 - MIN_SNAPSHOTS, -1, -1))
    assert [one.id for one in history.too_old(commits, 150, later)] == list(range(249, -1, -1))
    assert [one.id for one in history.too_old(commits, 0, START.timestamp() + 10)] == list(range(9, -1, -1))


def test_the_size_of_a_snapshot_counts_its_frame_and_the_keys_and_values_of_its_summary():
    assert history.size(Snapshot(1, None, 0.0, "append", {"ab": "cde", "f": ""})) == 250 + (8 + 2 + 3) + (8 + 1)


def test_young_snapshots_expire_beyond_the_newest_five_thousand():
    assert [one.id for one in history.too_old(_commits(5003, payload=0), 0, START.timestamp())] == [2, 1, 0]


def test_a_history_is_trimmed_to_its_size_from_its_end():
    commits = _commits(600)
    limit = 200 * history.size(commits[0])
    over = history.too_large(commits, 0, limit, START.timestamp() + 1000)
    assert [one.id for one in over] == list(range(399, -1, -1))
    assert len(history.too_large(commits, 0, limit - 1, START.timestamp() + 1000)) == 401
    assert history.too_large(commits, 300, limit, START.timestamp() + 1000) == over[100:]
    assert history.too_large(commits, 0, limit, START.timestamp() + 100) == over[300:]
    tagged = set(range(300, 400))
    assert [one.id for one in history.too_large(commits, 0, limit, START.timestamp() + 1000, tagged)] == list(
        range(299, -1, -1)
    )


def test_an_exchange_that_commits_often_does_not_displace_the_history_of_others():
    commits = _commits(600)
    commits[50::60] = [_commit(one.id, START + timedelta(seconds=one.id), "KRAKEN") for one in commits[50::60]]
    limit = 100 * history.size(commits[0])
    over = history.too_large(commits, 0, limit, START.timestamp() + 1000)
    assert {one.summary[EXCHANGE] for one in over} == {"BINANCE"}
    assert len(commits) - len(over) == 109  # the hundred newest, and nine older ones of Kraken


@given(st.lists(st.tuples(st.sampled_from(EXCHANGES), st.integers(0, 9000)), max_size=400), st.integers(0, 1 << 20))
def test_what_is_retained_beyond_the_newest_takes_no_more_than_the_limit(commits: list[tuple[str, int]], limit: int):
    newest_first = [
        _commit(number, START + timedelta(seconds=number), exchange, payload)
        for number, (exchange, payload) in enumerate(commits)
    ][::-1]
    over = {one.id for one in history.too_large(newest_first, 0, limit, START.timestamp() + 1000)}
    newest_of_queries = {one.query_id: one.id for one in reversed(newest_first)}
    beyond = [
        one for one in newest_first[MIN_SNAPSHOTS:]
        if one.id not in over and one.id not in newest_of_queries.values()
    ]  # fmt: skip
    assert sum(map(history.size, beyond)) <= limit


def test_a_week_can_be_travelled_back_with_five_feeds_that_commit_every_few_seconds():
    """Eight simulated days: 115,200 commits, a trim each minute, a round each hour."""
    retained: list[Snapshot] = []  # oldest first
    refs: dict[str, int] = {}
    largest = number = 0
    size = history.size(_commit(number, START))
    for minute in range(8 * 24 * 60):
        now = START + timedelta(minutes=minute)
        for place, exchange in enumerate(EXCHANGES * 2):
            retained.append(_commit(number, now + timedelta(seconds=6 * place), exchange))
            number += 1
        now += timedelta(minutes=1)
        if not tags.has_last_hour(refs, now):
            refs |= tags.missing(retained[::-1], refs, now)
            refs = {name: one for name, one in refs.items() if name not in tags.outdated(refs, now)}
        tagged = set(refs.values())
        if (len(retained) - len(tagged)) * size > 1.5 * history.GOLD.size:
            settled = (now - history.GOLD.settled).timestamp()
            over = history.too_large(retained[::-1], 0, history.GOLD.size, settled, tagged)
            expired = {one.id for one in over} - tagged
            retained = [one for one in retained if one.id not in expired]
        largest = max(largest, len(retained) * size)
    times = [one.committed_at for one in retained]
    end = START + timedelta(days=8)
    for hours in range(7 * 24 + 1):
        moment = (end - timedelta(hours=hours)).timestamp()
        assert 0 <= moment - times[bisect_right(times, moment) - 1] <= 3600
    days = [START + timedelta(days=day, hours=1) for day in range(1, 8)]
    for day in days:
        assert refs[f"day-{day - timedelta(days=1):%Y-%m-%d}"] in {one.id for one in retained}
    assert largest < 3 << 20
    assert len(refs) < 190
