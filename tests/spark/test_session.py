"""The session of this process, and how Python reads results from its JVM."""

import socket
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from tests.java_options import INTERPRETED

pytestmark = pytest.mark.spark


def test_results_are_read_from_a_socket_in_the_file_system(spark: SparkSession):
    address = spark.range(3)._jdf.collectToPython()[0]
    assert Path(address).is_socket()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(address)
        assert client.recv(1)


def test_files_on_a_local_disk_are_written_without_starting_processes(spark: SparkSession, tmp_path: Path):
    jvm = spark._jvm
    configuration = spark._jsc.hadoopConfiguration()
    folder = jvm.org.apache.hadoop.fs.Path(f"{tmp_path}/folder")
    files = folder.getFileSystem(configuration)
    process = jvm.java.lang.ProcessHandle.current().pid()
    before = _page_faults_of_children(process)
    assert files.mkdirs(folder)
    permission = jvm.org.apache.hadoop.fs.permission.FsPermission(0o640)
    for number in range(20):
        path = jvm.org.apache.hadoop.fs.Path(folder, str(number))
        files.create(path, True).close()
        files.setPermission(path, permission)
    assert _page_faults_of_children(process) == before
    assert {oct(path.stat().st_mode & 0o777) for path in (tmp_path / "folder").glob("[0-9]*")} == {"0o640"}


def _page_faults_of_children(pid: int) -> int:
    """Return the page faults of a process's ended children, as proc_pid_stat(5) counts them: each child has some."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[8])


def test_the_options_of_the_tests_reach_spark(spark: SparkSession):
    named = dict(word[2:].split("=") for word in INTERPRETED.split() if word.startswith("-Dspark."))
    assert named
    assert {key: spark.conf.get(key) for key in named} == named
