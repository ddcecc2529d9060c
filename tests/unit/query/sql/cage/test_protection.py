"""What the process of a statement cannot do, whatever code runs in it: the attempts are made by Python itself."""

import errno
import os
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from k2.query.errors import BadQuery
from k2.query.sql.cage.confinement import confine, landlock, seccomp
from k2.query.sql.cage.limits import Limits
from k2.query.sql.cage.tables import network
from tests.unit.query.sql.cage.conftest import run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's means are Linux's")


def confined(attempt: Callable[[], object], readable: list[str], port: int | None = None) -> None:
    """Run an attempt in a confined process. It must end without an assertion that failed."""
    reads, writes = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            confine.start(Limits(memory=10**9), port)
            confine.narrow(readable, port)
            attempt()
            os.write(writes, b"ok")
        except BaseException:  # noqa: BLE001 - the parent reports it
            os.write(writes, traceback.format_exc().encode()[-4000:])
        finally:
            os._exit(0)
    os.close(writes)
    with os.fdopen(reads, "rb") as answer:
        said = answer.read().decode()
    os.waitpid(pid, 0)
    assert said == "ok", said


def refused(call: Callable[[], object], *codes: int) -> None:
    with pytest.raises(OSError) as error:
        call()
    assert error.value.errno in (codes or (errno.EPERM, errno.EACCES)), error.value


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """A folder that anybody may write."""
    folder = tmp_path / "lake"
    folder.mkdir()
    folder.chmod(0o777)
    for parent in tmp_path.parents:
        if str(parent).startswith("/tmp/"):
            parent.chmod(0o755)
    tmp_path.chmod(0o755)
    (folder / "data.parquet").write_bytes(b"rows")
    (folder / "data.parquet").chmod(0o666)
    (tmp_path / "secret").write_bytes(b"secret")
    return folder


def test_no_file_can_be_changed(lake: Path) -> None:
    file = lake / "data.parquet"

    def attempt() -> None:
        assert file.read_bytes() == b"rows"
        refused(lambda: file.write_bytes(b"forged"))
        refused(lambda: file.open("ab"))
        refused(lambda: os.truncate(file, 0))
        refused(lambda: (lake / "new").write_bytes(b""))
        refused((lake / "new").mkdir)
        refused(lambda: (lake / "new").symlink_to(file))
        refused(lambda: os.link(file, lake / "new"))
        refused(file.unlink)
        refused(lambda: file.rename(lake / "other"))
        refused(lambda: file.chmod(0))
        refused(lambda: os.utime(file, (0, 0)))
        refused(lambda: os.setxattr(file, "user.k2", b"x"))
        refused(lambda: os.chown(file, 0, 0))
        refused(lambda: os.mkfifo(lake / "new"))

    before = file.stat()
    confined(attempt, [str(lake)])
    after = file.stat()
    assert (after.st_mode, after.st_mtime_ns, after.st_size) == (before.st_mode, before.st_mtime_ns, before.st_size)
    assert [path.name for path in lake.iterdir()] == ["data.parquet"]


def test_only_the_planned_folders_can_be_read(lake: Path) -> None:
    def attempt() -> None:
        for path in (lake.parent / "secret", "/etc/passwd", "/proc/self/environ", "/proc/1/environ", "/etc/hostname"):
            refused(lambda path=path: Path(path).read_bytes())
        refused(lambda: list(Path("/").iterdir()))

    confined(attempt, [str(lake)])


def test_no_process_can_be_started_or_ended(lake: Path) -> None:
    def attempt() -> None:
        refused(os.fork)
        refused(lambda: os.execv("/bin/true", ["true"]))
        refused(lambda: subprocess.run(["/bin/true"], check=True))
        refused(lambda: os.kill(os.getppid(), signal.SIGTERM))

    confined(attempt, [str(lake), "/bin", "/usr"])


def test_there_is_no_network(lake: Path) -> None:
    def attempt() -> None:
        for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, socket.AF_NETLINK):
            refused(lambda family=family: socket.socket(family, socket.SOCK_STREAM))
        refused(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))

    confined(attempt, [str(lake)])


def test_over_s3_one_port_can_be_reached(lake: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as store, socket.create_server(("127.0.0.1", 0)) as other:
        ports = [server.getsockname()[1] for server in (store, other)]

        def attempt() -> None:
            socket.create_connection(("127.0.0.1", ports[0]), 5).close()
            if landlock.version() >= 4:
                refused(lambda: socket.create_connection(("127.0.0.1", ports[1]), 5))
            refused(lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            refused(lambda: socket.create_server(("127.0.0.1", 0)))

        confined(attempt, [str(lake)], ports[0])


def test_limits_cannot_be_raised(lake: Path) -> None:
    def attempt() -> None:
        import resource

        for limit in (resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_FSIZE):
            try:
                resource.setrlimit(limit, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            except (ValueError, OSError):
                continue
            raise AssertionError(limit)

    confined(attempt, [str(lake)])


@pytest.mark.parametrize("without", ["landlock", "calls"])
def test_either_means_alone_keeps_it_from_writing(lake: Path, monkeypatch: pytest.MonkeyPatch, without: str) -> None:
    if without == "landlock":
        monkeypatch.setattr(landlock, "version", lambda: 0)
    else:
        monkeypatch.setattr(seccomp, "supported", lambda: False)
    file = lake / "data.parquet"

    def attempt() -> None:
        refused(lambda: file.write_bytes(b"forged"))
        refused(file.unlink)

    confined(attempt, [str(lake)])
    assert file.read_bytes() == b"rows"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_root_becomes_nobody_and_still_reads(lake: Path) -> None:
    file = lake / "data.parquet"
    file.chmod(0o600)

    def attempt() -> None:
        assert os.getresuid() == (65534,) * 3
        assert file.read_bytes() == b"rows"

    confined(attempt, [str(lake)])


def test_what_holds_is_reported(cages) -> None:
    protection = cages().protection()
    assert protection.enforced
    assert protection.landlock == landlock.version()
    assert protection.calls == seccomp.supported()
    assert "filtered system calls" in str(protection) or not seccomp.supported()
    nothing = confine.Protection(0, calls=False, user=False, memory=True, enforced=False)
    assert str(nothing).startswith("none")


def test_the_filter_is_a_program_for_each_machine() -> None:
    for machine in ("x86_64", "aarch64"):
        program = seccomp.instructions(machine, network=False)
        assert len(program) < 4096
        for place, (code, true, false, _) in enumerate(program):
            assert code == 0x06 or place + 1 + max(true, false) < len(program)


def test_the_process_alone_refuses_what_no_list_has_judged(cages, tmp_path: Path) -> None:
    cage = cages()
    for statement in (
        f"COPY (SELECT 1) TO '{tmp_path}/out.csv'",
        f"WITH x AS (COPY (SELECT 1) TO '{tmp_path}/out.csv') SELECT 1",
        "SELECT * FROM read_text('/etc/passwd')",
        f"ATTACH '{tmp_path}/x.db'",
        "SET enable_external_access = true",
        "INSTALL httpfs",
    ):
        with pytest.raises(BadQuery):
            run(cage, statement)
    assert list(tmp_path.iterdir()) == []


def test_the_environment_of_a_process_has_nothing_of_the_servers(cages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K2_CATALOG_PASSWORD", "secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    process = cages().process()
    environment = Path(f"/proc/{process.started.result(10)}/environ").read_text()
    assert "secret" not in environment
    process.close()


def test_the_network_is_the_object_stores_port(layout) -> None:
    local = layout.platform()
    assert network(local) is None
    s3 = local.model_copy(update={"warehouse": "s3://lake", "s3_endpoint": "http://store:9000"})
    assert network(s3) == 9000
    assert network(s3.model_copy(update={"s3_endpoint": ""})) == 443
