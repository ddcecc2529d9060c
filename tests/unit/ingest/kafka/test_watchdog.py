"""When a producer is taken to hang, with a given clock."""

from k2.ingest.kafka.watchdog import Verdict, Watchdog


def watchdog(replacements: int = 2) -> Watchdog:
    return Watchdog(stall_after=30, confirm_after=10, replacements=replacements)


def run(dog: Watchdog, seconds: range, *, progress=1, answered=True) -> list[tuple[int, Verdict]]:
    """Look every second; the verdicts of the probes that were due."""
    return [(now, dog.probed(answered=answered, now=now)) for now in seconds if dog.observe(progress, now)]


def test_a_producer_that_makes_progress_is_never_probed():
    dog = watchdog()
    assert not any(dog.observe(number, 10 * number) for number in range(1000))


def test_an_idle_producer_is_never_probed():
    dog = watchdog()
    assert not any(dog.observe(None, now) for now in range(1000))
    assert not dog.observe(1, 1000)  # its time counts from its first record
    assert not dog.observe(1, 1029)
    assert dog.observe(1, 1030)


def test_a_producer_that_hangs_is_replaced_once_two_probes_are_answered():
    assert run(watchdog(), range(41)) == [(30, Verdict.WAIT), (40, Verdict.REPLACE)]


def test_a_producer_that_moves_after_the_first_answered_probe_is_left_alone():
    dog = watchdog()
    assert run(dog, range(31)) == [(30, Verdict.WAIT)]
    assert run(dog, range(31, 61), progress=2) == []


def test_kafka_being_down_is_no_hang_however_long():
    dog = watchdog()
    verdicts = run(dog, range(10_000), answered=False)
    assert {verdict for _, verdict in verdicts} == {Verdict.WAIT}
    assert [now for now, _ in verdicts[:3]] == [30, 40, 50]
    assert not dog.stuck


def test_after_an_outage_the_producer_has_time_to_connect():
    dog = watchdog()
    run(dog, range(200), answered=False)
    assert run(dog, range(200, 211)) == [(200, Verdict.WAIT), (210, Verdict.REPLACE)]


def test_an_unanswered_probe_between_two_answered_ones_starts_over():
    dog = watchdog()
    run(dog, range(31))
    assert run(dog, range(31, 41), answered=False) == [(40, Verdict.WAIT)]
    assert run(dog, range(41, 61)) == [(50, Verdict.WAIT), (60, Verdict.REPLACE)]


def test_a_new_producer_has_its_time_too_and_after_the_last_one_the_process_ends():
    assert run(watchdog(), range(121)) == [
        (30, Verdict.WAIT), (40, Verdict.REPLACE), (70, Verdict.WAIT), (80, Verdict.REPLACE), (110, Verdict.WAIT),
        (120, Verdict.GIVE_UP),
    ]  # fmt: skip


def test_progress_after_a_replacement_forgets_the_hang():
    dog = watchdog(replacements=1)
    run(dog, range(75))
    assert dog.stuck
    assert not dog.observe(2, 75)
    assert not dog.stuck
    assert run(dog, range(76, 120), progress=2) == [(105, Verdict.WAIT), (115, Verdict.REPLACE)]


def test_a_producer_is_stuck_only_once_a_new_one_hangs_too_and_kafka_answers():
    dog = watchdog()
    run(dog, range(70))
    assert not dog.stuck
    run(dog, range(70, 80), answered=False)
    assert not dog.stuck
    run(dog, range(80, 81))
    assert dog.stuck
    assert dog.stalled_for(80) == 80
