"""The kit's installers, run as programs."""

from pathlib import Path

import pytest

from cluster import platform, providers, shell
from cluster.providers import Kit
from cluster.shell import Failed

SCRIPT = """#!/bin/sh
echo run >> {told}
if [ $(wc -l < {told}) -gt {failures} ]; then exit 0; fi
echo "error: {words}" >&2
exit 1
"""
NO_STATUS = ".status.conditions accessor error: <nil> is of the type <nil>, expected []interface{}"


@pytest.fixture
def kit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kit:
    monkeypatch.setattr(shell, "LOGS", tmp_path / "logs")
    monkeypatch.setattr(providers, "_A_MOMENT", 0.0)
    return Kit(tmp_path)


def installer(kit: Kit, failures: int, words: str) -> Path:
    told = kit.folder / "told"
    path = kit.folder / "strimzi"
    path.write_text(SCRIPT.format(told=told, failures=failures, words=words))
    path.chmod(0o755)
    return told


def scripts(kit: Kit, *paths: Path) -> Path:
    """Programs that say in a file how they were called."""
    told = kit.folder / "told"
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'#!/bin/sh\necho {path.name} "$@" >> {told}\n')
        path.chmod(0o755)
    return told


def test_what_goes_into_an_image_is_built_before_it(kit: Kit) -> None:
    told = scripts(kit, kit.folder / "tools", kit.folder / "images", kit.folder / "load")
    kit.third_party(["postgres", "minio", "mc"])
    programs, images, loaded = told.read_text().splitlines()
    assert (programs, images) == ("tools minio mc", "images postgres minio minio")
    assert [name.split(":")[0] for name in loaded.split()] == [
        "load",
        "postgres",
        "quay.io/minio/minio",
        "quay.io/minio/mc",
    ]
    told.unlink()
    kit.third_party(["postgres"])
    assert told.read_text().splitlines()[0] == "images postgres"


def test_what_images_are_built_on_is_there_before_they_are(kit: Kit) -> None:
    """Where nothing can be pulled and nothing was built before."""
    told = scripts(kit, kit.folder / "images", kit.folder / "bin" / "make", kit.folder / "load")
    kit.env["PATH"] = f"{kit.folder / 'bin'}:{kit.env['PATH']}"
    platform.build(kit)
    built, made, loaded = told.read_text().splitlines()
    assert (built, made) == ("images python spark", "make images")
    assert loaded.split() == ["load", *platform.images()]


def test_an_installer_that_met_a_definition_without_status_is_run_again(kit: Kit) -> None:
    told = installer(kit, 1, NO_STATUS)
    kit.script("strimzi")
    assert told.read_text() == "run\nrun\n"


@pytest.mark.parametrize(("failures", "words", "runs"), [(2, NO_STATUS, 2), (1, "no such image", 1)])
def test_any_other_failure_and_a_second_one_are_told(kit: Kit, failures: int, words: str, runs: int) -> None:
    told = installer(kit, failures, words)
    with pytest.raises(Failed, match="error: "):
        kit.script("strimzi")
    assert told.read_text() == "run\n" * runs
