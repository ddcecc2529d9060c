"""The script that makes PostgreSQL's users and databases, on a PostgreSQL of the test's own."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.charts.rendering import CHARTS

SCRIPT = CHARTS / "k2-platform/files/databases.sh"
PROGRAMS = next((path.parent for path in sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))), None)
# PostgreSQL refuses to run as root.
USER = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}

pytestmark = pytest.mark.skipif(
    PROGRAMS is None or not shutil.which("psql"), reason="PostgreSQL is not installed on this machine"
)


class Server:
    """A PostgreSQL with its socket in a folder, and the chart's Secrets beside it."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder = folder
        self._env = {"PATH": os.environ["PATH"], "PGHOST": str(folder), "PGPORT": str(port), "LC_ALL": "C"}

    def secret(self, name: str, **files: str) -> None:
        (self._folder / name).mkdir(exist_ok=True)
        for file, text in files.items():
            (self._folder / name / file).write_text(text)

    def run_script(self) -> None:
        script = SCRIPT.read_text().replace("/etc/k2", str(self._folder))
        subprocess.run(["bash", "-c", script], check=True, env=self._env, timeout=60)

    def ask(self, user: str, password: str, statement: str, host: str = "127.0.0.1") -> str:
        """Return the answer to a statement, or the error."""
        words = ["psql", "--no-psqlrc", "--tuples-only", "--no-align", "--host", host, "--dbname", "iceberg"]
        env = self._env | {"PGPASSWORD": password}
        done = subprocess.run(
            [*words, "--username", user, "--command", statement], env=env, capture_output=True, text=True, timeout=60
        )
        return (done.stdout or done.stderr).strip()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    assert PROGRAMS is not None
    folder = Path(tempfile.mkdtemp(prefix="k2-pg-", dir="/tmp"))  # a socket's path is short
    folder.chmod(0o777)
    data = folder / "data"
    subprocess.run(
        [PROGRAMS / "initdb", "--no-sync", "--username=postgres", "--auth-host=scram-sha-256", "--pgdata", data],
        check=True,
        stdout=subprocess.DEVNULL,
        **USER,
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [PROGRAMS / "postgres", "-D", data, "-k", folder, "-p", str(port), "-h", "127.0.0.1", "-c", "fsync=off"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log, **USER)
    server = Server(folder, port)
    server.secret("postgres", password="root")
    server.secret("catalog", username="k2", password='owner\'s "pass"')
    server.secret("catalog-query", username="k2-query", password="reader")
    try:
        server.run_script()
        yield server
    finally:
        process.terminate()
        process.wait(30)
        with suppress(OSError):
            shutil.rmtree(folder)


OWNER = ("k2", 'owner\'s "pass"')
READER = ("k2-query", "reader")


def test_the_query_services_user_reads_tables_of_before_and_after_but_changes_nothing(server: Server):
    server.ask(*OWNER, "CREATE TABLE before AS SELECT 1 AS value")
    server.run_script()  # as at the next start
    server.ask(*OWNER, "CREATE TABLE after AS SELECT 2 AS value")
    assert [server.ask(*READER, f"SELECT value FROM {table}") for table in ("before", "after")] == ["1", "2"]
    for statement in (
        "INSERT INTO before VALUES (3)",
        "UPDATE before SET value = 3",
        "DELETE FROM after",
        "TRUNCATE after",
        "CREATE TABLE mine (value int)",
        "CREATE TEMPORARY TABLE mine (value int)",
    ):
        assert "permission denied" in server.ask(*READER, statement), statement
    assert "must be owner" in server.ask(*READER, "DROP TABLE before")
    assert server.ask(*OWNER, "SELECT value FROM before UNION SELECT value FROM after ORDER BY 1") == "1\n2"


def test_a_changed_password_is_in_force_after_the_next_start(server: Server):
    server.secret("catalog-query", password="newer")
    server.run_script()
    assert "password authentication failed" in server.ask("k2-query", "reader", "SELECT 1")
    assert server.ask("k2-query", "newer", "SELECT 1") == "1"
    server.secret("catalog-query", password="reader")
    server.run_script()
