"""Each limit ends the process of its statement, names itself, and leaves others alone."""

import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from k2.query.errors import BadQuery, TooLarge, Unavailable
from k2.query.execution.cancellation import Interrupt
from k2.query.sql.cage import statements
from k2.query.sql.cage.job import Job
from k2.query.sql.cage.limits import HEADROOM, Limits, parse_memory
from tests.unit.query.sql.cage.conftest import run

MEMORY_BOMBS = [
    "SELECT length(repeat('x', 2000000000))",
    "SELECT list_sort(range(150000000))",
    "SELECT array_agg(range) FROM range(150000000)",
    "SELECT count(DISTINCT range::VARCHAR) FROM range(150000000)",
    "SELECT string_agg(repeat('x', 1000), '') FROM range(10000000)",
    "SELECT regexp_replace(repeat('a', 100000000), 'a', repeat('b', 1000), 'g')",
    "SELECT hex(repeat('x', 1000000000))",
]
TIME_BOMBS = [
    "SELECT levenshtein(repeat('a', 1000000), repeat('b', 1000000))",
    "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT max(n) FROM t",
    "SELECT count(*) FROM range(10000000) a, range(10000000) b WHERE a.range * b.range % 7 = 3",
]


@pytest.mark.parametrize("statement", MEMORY_BOMBS)
def test_memory_is_limited_beside_duckdbs_own_limit_too(cages, statement: str) -> None:
    cage = cages()
    with pytest.raises(TooLarge, match="memory"):
        run(cage, statement)
    assert run(cage, "SELECT 1 AS one").to_pylist() == [{"one": 1}]


@pytest.mark.parametrize("statement", TIME_BOMBS)
def test_cpu_time_is_limited(cages, statement: str) -> None:
    cage = cages(cpu_seconds=1.0)
    with pytest.raises(TooLarge, match="CPU time"):
        run(cage, statement)
    assert run(cage, "SELECT 1 AS one").to_pylist() == [{"one": 1}]


def test_time_in_total_is_limited_for_a_client_that_does_not_read(cages) -> None:
    cage = cages(wall_seconds=2.0)
    process = cage.process()
    process.parse("SELECT 1")
    reader = process.run(Job("SELECT range, repeat('x', 1000) FROM range(100000000)"))
    assert reader.read_next_batch().num_rows
    assert process.exit.result(30) == -signal.SIGALRM
    with pytest.raises(TooLarge, match="longer than 2 s"):
        reader.read_all()


def test_a_client_that_does_not_read_costs_bounded_memory(cages) -> None:
    process = cages().process()
    process.parse("SELECT 1")
    reader = process.run(Job("SELECT range, repeat('x', 1000) FROM range(100000000)"))
    reader.read_next_batch()
    child = psutil.Process(process.started.result(10))
    before = psutil.Process().memory_info().rss
    spent, until = None, time.monotonic() + 60
    while spent != child.cpu_times():
        assert time.monotonic() < until, "it does not wait for its reader"
        spent = child.cpu_times()
        time.sleep(0.5)
    assert child.memory_info().rss < 300_000_000 + HEADROOM
    assert psutil.Process().memory_info().rss - before < 50_000_000
    process.close()


def test_bytes_of_a_result_are_limited(cages) -> None:
    cage = cages(output_bytes=5_000_000)
    assert run(cage, "SELECT range FROM range(500000)").num_rows == 500_000
    with pytest.raises(TooLarge, match="more than 5 MB"):
        run(cage, "SELECT range FROM range(1000000)")


def test_bytes_of_a_row_are_limited(cages) -> None:
    cage = cages(row_bytes=1_000_000)
    assert run(cage, "SELECT repeat('x', 900000) AS x FROM range(5)").num_rows == 5
    with pytest.raises(TooLarge, match="a row"):
        run(cage, "SELECT repeat('x', 1100000) AS x")


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT " + "(" * 480 + "1" + "+1)" * 480,
        "SELECT " + "1" + "+1" * 20_000,
        "SELECT " + "[" * 3_000 + "1" + "]" * 3_000,
        "SELECT " + "(" * 30_000 + "1" + ")" * 30_000,
        "SELECT " + "NOT " * 20_000 + "true",
        "SELECT " + "CASE WHEN true THEN " * 2_000 + "1" + " END" * 2_000,
        "SELECT " + "(SELECT " * 2_000 + "1" + ")" * 2_000,
        "SELECT [" + "1, " * 30_000 + "1]",
        "SELECT '" + "x" * 99_000,
    ],
)
def test_a_statement_of_any_shape_has_an_answer_of_one_short_line(cages, statement: str) -> None:
    cage = cages(cpu_seconds=5.0)
    answer = ""
    try:
        checked = statements.check(cage.process(), statement, ())
        run(cage, checked.text)
    except BadQuery as error:
        answer = str(error)
    assert len(answer) < 1000
    assert "\n" not in answer
    assert run(cage, "SELECT 1 AS one").to_pylist() == [{"one": 1}]


def test_other_statements_are_answered_while_one_runs_into_its_limit(cages) -> None:
    cage = cages(cpu_seconds=3.0)
    failed = []

    def bomb() -> None:
        try:
            run(cage, TIME_BOMBS[0])
        except TooLarge as error:
            failed.append(error)

    thread = threading.Thread(target=bomb)
    thread.start()
    answers = 0
    while thread.is_alive():
        answers += run(cage, "SELECT 1 AS one").num_rows
    thread.join()
    assert len(failed) == 1
    assert answers > 1


def test_an_interrupt_ends_the_process_within_a_call_of_one_function(cages) -> None:
    process = cages().process()
    process.parse("SELECT 1")
    stop = Interrupt()
    stop.register(process)
    threading.Timer(0.5, stop).start()
    with pytest.raises(Unavailable, match="cancelled"):
        process.run(Job(TIME_BOMBS[0])).read_all()
    assert process.exit.result(10) == -signal.SIGKILL


def test_a_reader_that_is_dropped_ends_its_process(cages) -> None:
    cage = cages()
    process = cage.process()
    process.parse("SELECT 1")
    reader = process.run(Job("SELECT range FROM range(1000000000)"))
    ended = process.exit
    del reader, process
    assert ended.result(10) == -signal.SIGKILL


@pytest.mark.parametrize(
    ("left", "asked"),
    [
        ("CREATE TYPE secret AS ENUM ('a')", "SELECT 'a'::secret"),
        ("CREATE TEMP MACRO secret() AS 42", "SELECT secret()"),
        ("CREATE TEMP TABLE secret AS SELECT 42 AS x", "FROM secret"),
        ("SET VARIABLE secret = 42", "SELECT 1 WHERE getvariable('secret') = 42"),
        ("SET TimeZone = 'Asia/Tokyo'", "SELECT 1 WHERE current_setting('TimeZone') = 'Asia/Tokyo'"),
    ],
)
def test_what_a_statement_leaves_ends_with_its_process(cages, left: str, asked: str) -> None:
    """No list has judged these: whatever gets past it, the next statement begins without it."""
    cage = cages()
    process = cage.process()
    process.parse(left)
    with suppress(BadQuery):
        process.run(Job(left)).read_all()
    process.close()
    try:
        assert run(cage, asked).num_rows == 0
    except BadQuery as error:
        assert "does not exist" in str(error)  # noqa: PT017


def test_closing_the_cage_ends_every_process(cages) -> None:
    cage = cages()
    process = cage.process()
    process.parse("SELECT 1")
    pid = process.started.result(10)
    server = psutil.Process(pid).parent()
    children = server.children()
    cage.close()
    gone, alive = psutil.wait_procs([server, *children], 10)
    assert (len(gone), alive) == (1 + len(children), [])


def test_a_fork_server_that_was_killed_is_started_again(cages) -> None:
    cage = cages()
    process = cage.process()
    server = psutil.Process(process.started.result(10)).parent()
    server.kill()
    psutil.wait_procs([server], 10)
    assert process.exit.result(10) == -signal.SIGKILL
    until = time.monotonic() + 30
    while cage._server is not None and cage._server.alive and time.monotonic() < until:
        time.sleep(0.01)
    assert run(cage, "SELECT 1 AS one").to_pylist() == [{"one": 1}]


@pytest.mark.parametrize(
    ("text", "size"), [("1GB", 10**9), ("300 MiB", 300 << 20), ("64MB", 64 * 10**6), ("2TiB", 2 << 40)]
)
def test_sizes_are_read_as_duckdb_reads_them(text: str, size: int) -> None:
    assert parse_memory(text) == size


def test_the_address_space_of_a_process_is_what_the_limits_say(cages) -> None:
    process = cages().process()
    pid = process.started.result(10)
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    space = int(next(line for line in lines if line.startswith("Max address space")).split()[3])
    used = psutil.Process(pid).memory_info().vms
    assert used < space < used + 300_000_000 + 2 * HEADROOM
    assert Limits().exceeded(-signal.SIGXCPU).args[0].startswith("the statement used more than 3600 s")
    process.close()
