"""The kit's installers run as programs, in the right order, and one failure is retried."""

from pathlib import Path

import pytest

from cluster import dependencies, platform, providers, shell
from cluster.__main__ import build_and_install
from cluster.providers import Kit
from cluster.shell import StepFailed

SCRIPT = """#!/bin/sh
echo run >> {calls}
if [ $(wc -l < {calls}) -gt {failures} ]; then exit 0; fi
echo "error: {words}" >&2
exit 1
"""
NO_STATUS = ".status.conditions accessor error: <nil> is of the type <nil>, expected []interface{}"


@pytest.fixture
def kit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kit:
    monkeypatch.setattr(shell, "LOGS", tmp_path / "logs")
    monkeypatch.setattr(providers, "_RETRY_DELAY", 0.0)
    return Kit(tmp_path)


def installer(kit: Kit, failures: int, words: str) -> Path:
    calls = kit.folder / "calls"
    path = kit.folder / "strimzi"
    path.write_text(SCRIPT.format(calls=calls, failures=failures, words=words))
    path.chmod(0o755)
    return calls


def scripts(kit: Kit, *paths: Path) -> Path:
    """Write programs that log their calls to a file, and return that file."""
    calls = kit.folder / "calls"
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'#!/bin/sh\necho {path.name} "$@" >> {calls}\n')
        path.chmod(0o755)
    return calls


def test_programs_of_an_image_are_built_before_the_image(kit: Kit) -> None:
    calls = scripts(kit, kit.folder / "tools", kit.folder / "images", kit.folder / "load")
    kit.load_third_party(["postgres", "minio", "mc"])
    programs, images, loaded = calls.read_text().splitlines()
    assert (programs, images) == ("tools minio mc", "images postgres minio minio")
    assert [name.split(":")[0] for name in loaded.split()] == [
        "load",
        "postgres",
        "quay.io/minio/minio",
        "quay.io/minio/mc",
    ]
    calls.unlink()
    kit.load_third_party(["postgres"])
    assert calls.read_text().splitlines()[0] == "images postgres"


def test_base_images_are_built_before_the_images_and_before_the_image_that_stands_on_them(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine that can pull nothing and has built nothing before."""
    calls = scripts(kit, kit.folder / "images", kit.folder / "bin" / "make", kit.folder / "load")
    slow = kit.folder / "images"
    slow.write_text(f'#!/bin/sh\nsleep 0.3\necho images "$@" >> {calls}\n')
    kit.env["PATH"] = f"{kit.folder / 'bin'}:{kit.env['PATH']}"

    def install(name: str) -> None:
        with calls.open("a") as log:
            log.write(f"install {name}\n")

    for name in ("network_policies", "strimzi", "spark_operator", "prometheus"):
        monkeypatch.setattr(dependencies, name, lambda *_, name=name: install(name))
    monkeypatch.setattr(platform, "THIRD_PARTY", ())
    build_and_install(kit, {})
    kit.load_images(platform.images())
    done = calls.read_text().splitlines()
    assert done.index("images python spark") < done.index("make images")
    assert done.index("images python spark") < done.index("install spark_operator")
    assert done.index("install strimzi") < done.index("images python spark")  # that they are not built first
    assert done[-1].split() == ["load", *platform.images()]


def test_an_installer_is_retried_if_a_crd_had_no_status(kit: Kit) -> None:
    calls = installer(kit, 1, NO_STATUS)
    kit.script("strimzi")
    assert calls.read_text() == "run\nrun\n"


@pytest.mark.parametrize(("failures", "words", "runs"), [(2, NO_STATUS, 2), (1, "no such image", 1)])
def test_any_other_failure_and_a_second_failure_are_raised(kit: Kit, failures: int, words: str, runs: int) -> None:
    calls = installer(kit, failures, words)
    with pytest.raises(StepFailed, match="error: "):
        kit.script("strimzi")
    assert calls.read_text() == "run\n" * runs
