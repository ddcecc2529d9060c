"""The trust store of the JVMs, as Java's own tool reads it."""

import subprocess
from pathlib import Path

import pytest

from k2.common.validation_errors import InvalidSpec
from k2.jobs.spark.jvm import trust_store
from k2.jobs.spark.jvm.java import find_java
from tests.certificates import Authority


def test_java_finds_the_named_authorities_as_trusted_beside_the_systems(tmp_path: Path) -> None:
    keytool = find_java().path.with_name("keytool")
    if not keytool.exists():
        pytest.skip("Java has no keytool on this machine")
    files = [str(Authority(name).write_certificate(tmp_path / f"{name}.crt")) for name in ("first", "second")]
    counts = []
    for named in ([], [*files, files[0]]):
        trust_store.write(tmp_path / "ca.p12", named)
        words = [keytool, "-list", "-keystore", tmp_path / "ca.p12", "-storepass", trust_store.PASSWORD]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
        counts.append(done.stdout.count("trustedCertEntry"))
    assert counts[1] == counts[0] + 2


def test_a_file_without_certificates_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("no certificate")
    with pytest.raises(InvalidSpec, match=r"ca.crt.* must be a file of certificates"):
        trust_store.write(tmp_path / "ca.p12", [str(tmp_path / "ca.crt")])
