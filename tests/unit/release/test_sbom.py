"""`make sbom`: each image's list is valid CycloneDX and holds exactly what its lock files pin."""

import json
import re
from importlib.metadata import version
from pathlib import Path
from zipfile import ZipFile

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from k2.jobs.spark.jvm.jars import read_lock
from release.licences import of_archive, of_distribution
from release.sbom import IMAGES, ROOT, Part, document, java_parts, python_parts


@pytest.mark.parametrize("image", IMAGES)
def test_python_packages_are_those_of_the_lock_that_hold_on_linux_with_licences(image: str):
    parts = {part.name: part for part in python_parts(image)}
    lines = re.findall(
        r"^([a-z0-9._-]+)==([^ ;\\]+)( ;[^\\]*)?", (ROOT / image / "requirements.lock").read_text(), re.MULTILINE
    )
    unconditional = {name.replace(".", "-"): pinned for name, pinned, marker in lines if not marker}
    assert unconditional.items() <= {name: part.version for name, part in parts.items()}.items()
    assert not {"appnope", "colorama", "httpx2-jsfetch"} & set(parts)  # of other systems
    assert [name for name, part in parts.items() if not part.licences] == []


def test_java_archives_are_those_of_the_lock_and_sparks_own():
    parts = java_parts()
    locked = {(jar.group, jar.artifact, jar.version, jar.sha256) for jar in read_lock() if jar.set in {"spark", "s3"}}
    assert locked <= {(part.group, part.name, part.version, part.checksum) for part in parts}
    assert {"spark-core_2.13", "hadoop-client-runtime"} <= {part.name for part in parts}
    assert all(re.fullmatch("[0-9a-f]{64}", part.checksum) for part in parts)


def test_a_document_is_valid_and_each_component_keeps_url_checksum_and_licence():
    parts = [
        Part("pypi", "", "attrs", "26.1", ("MIT",)),
        Part("maven", "org.x", "y", "1.0", ("https://www.apache.org/licenses/LICENSE-2.0.txt",), "0" * 64),
        Part("maven", "", "z", "1.0", ("Public Domain, per Creative Commons CC0", "BSD-2-Clause")),
        Part("deb", "debian", "libc6", "2.36-9"),
    ]
    text = document("jobs", "1.2.3", parts)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    components = {each["name"]: each for each in json.loads(text)["components"]}
    assert [each["license"]["id"] for each in components["attrs"]["licenses"]] == ["MIT"]
    assert components["y"]["purl"] == "pkg:maven/org.x/y@1.0"
    assert components["y"]["hashes"] == [{"alg": "SHA-256", "content": "0" * 64}]
    assert len(components["z"]["licenses"]) == 2
    assert "licenses" not in components["libc6"]


def _archive(path: Path, files: dict[str, str]) -> Path:
    with ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


POM = "<project xmlns='http://maven.apache.org/POM/4.0.0'><licenses><license><name>{}</name></license></licenses></project>"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            {
                "META-INF/maven/org.shaded/shaded/pom.xml": POM.format("GPL"),
                "META-INF/maven/org.x/own/pom.xml": POM.format("MIT"),
                "META-INF/MANIFEST.MF": "Bundle-License: Other\r\n",
            },
            ("MIT",),
        ),
        ({"META-INF/MANIFEST.MF": 'Bundle-License: "Apache-2.0";link="https\r\n ://a"\r\n'}, ("Apache-2.0",)),
        ({"LICENSE": "\n   Apache License\n   Version 2.0, January 2004\n"}, ("Apache License Version 2.0",)),
        ({"a.class": ""}, ()),
    ],
    ids=["own pom, not a shaded one's", "manifest", "licence file", "none"],
)
def test_the_licence_of_an_archive(files: dict[str, str], expected: tuple[str, ...], tmp_path: Path):
    assert of_archive(_archive(tmp_path / "own-1.jar", files), "own") == expected


def test_the_licence_of_a_distribution():
    assert version("pyyaml")
    assert of_distribution("pyyaml") == ("MIT License",)
    assert of_distribution("not-installed") == ()
