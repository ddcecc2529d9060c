"""The session of this process, and how Python reads results from its JVM."""

import socket
import ssl
from pathlib import Path
from threading import Thread

import pytest
from pyspark.sql import SparkSession

from k2.jobs.spark.jvm import trust_store
from tests.certificates import Authority

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


def test_a_jvm_trusts_the_authorities_of_the_trust_store_and_the_systems(spark: SparkSession, tmp_path: Path):
    authority = Authority("company")
    certificate, key = authority.issue("store", tmp_path / "server")
    trust_store.write(tmp_path / "ca.p12", [str(authority.write_certificate(tmp_path / "ca.crt"))])
    properties = trust_store.properties(tmp_path / "ca.p12")
    java = spark._jvm.java
    for name, value in properties.items():
        java.lang.System.setProperty(name, value)
    try:
        # As the clients do it: the default trust managers read the properties when a context is made.
        tls = spark._jvm.javax.net.ssl.SSLContext.getInstance("TLS")
        tls.init(None, None, None)
        factory = tls.getSocketFactory()
    finally:
        for name in properties:
            java.lang.System.clearProperty(name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as server:
        Thread(target=lambda: context.wrap_socket(server.accept()[0], server_side=True).close(), daemon=True).start()
        client = factory.createSocket("127.0.0.1", server.getsockname()[1])
        client.startHandshake()
        assert "store" in str(client.getSession().getPeerPrincipal())
        client.close()
