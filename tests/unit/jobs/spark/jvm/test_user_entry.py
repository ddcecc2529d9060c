"""Hadoop's login, of a user without an entry in passwd."""

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from k2.jobs.spark.jvm import user_entry
from k2.jobs.spark.jvm.java import find_java

# As on OpenShift: any user, in the group root.
AS_ANYONE = ("setpriv", "--reuid=1000730000", "--regid=0", "--clear-groups")
FOLDER = os.environ.get("K2_NSS_WRAPPER", "/usr/lib")  # the folder below which the library is
LOGIN = """
import os, subprocess, sys
from k2.jobs.spark.jvm import gateway, user_entry
words = [sys.argv[1], *gateway.flags(), "-cp", gateway.class_path(), "org.apache.hadoop.security.UserGroupInformation"]
more = user_entry.variables(os.environ, [sys.argv[2]])
sys.exit(subprocess.run(words, env={**os.environ, **more}).returncode)
"""


@pytest.fixture
def library(tmp_path):
    path = tmp_path / "x86_64-linux-gnu" / "libnss_wrapper.so"
    path.parent.mkdir()
    path.touch()
    return path


@pytest.fixture
def nameless(monkeypatch):
    def unknown(uid):
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", unknown)


def test_a_user_with_an_entry_keeps_it(library):
    assert pwd.getpwuid(os.getuid())
    assert user_entry.variables({}, [str(library.parents[1])]) == {}


def test_a_user_without_one_gets_it(library, nameless):
    given = user_entry.variables({"LD_PRELOAD": "other.so", "HOME": "/tmp"}, [str(library.parents[1])])
    assert given["LD_PRELOAD"] == f"{library}:other.so"
    entry = Path(given["NSS_WRAPPER_PASSWD"]).read_text()
    assert entry == f"k2:x:{os.getuid()}:{os.getgid()}:k2:/tmp:/bin/false\n"


def test_nothing_is_changed_where_another_did_it_or_nothing_can_be_done(library, nameless, tmp_path):
    assert user_entry.variables({"NSS_WRAPPER_PASSWD": "/tmp/passwd"}, [str(tmp_path)]) == {}
    library.unlink()
    assert user_entry.variables({}, [str(tmp_path)]) == {}


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="only root may become another user")
@pytest.mark.skipif(not [*Path(FOLDER).glob("**/libnss_wrapper.so")], reason="libnss-wrapper is not installed")
@pytest.mark.parametrize(("folder", "logged_in"), [(FOLDER, True), ("/nowhere", False)])
def test_hadoop_logs_in_as_any_user(folder, logged_in):
    """Without the entry the login fails, so that the test shows what the entry is for."""
    with tempfile.TemporaryDirectory() as home:
        Path(home).chmod(0o777)
        environment = {**os.environ, "HOME": home, "TMPDIR": home, "PYTHONDONTWRITEBYTECODE": "1"}
        words = [*AS_ANYONE, sys.executable, "-c", LOGIN, str(find_java().path), folder]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode == 0) is logged_in, done.stderr
    assert ("UGI: k2 (auth:SIMPLE)" in done.stdout) is logged_in
    assert ("invalid null input: name" in done.stderr) is not logged_in
