"""Write what each image holds, with licences (`make sbom`): CycloneDX into dist/sbom/IMAGE.cdx.json, and licences.csv.

Python packages come from the image's lock, Java archives from jars.lock and pyspark, Debian's packages from the image
itself if a container engine here has it. Components without a licence of their own words are listed at the end.
"""

import argparse
import csv
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense, License
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from k2.jobs.spark.jvm.jars import S3, SPARK, Jar, missing, read_lock, sha256, spark_home
from k2.jobs.spark.jvm.jars import cache as jar_cache
from release.licences import of_archive, of_distribution

ROOT: Final = Path(__file__).parents[1]
IMAGES: Final = ("operator", "ingest", "jobs", "query")
# The images' Python, whatever machine this is run on.
_TARGET: Final = {
    "sys_platform": "linux",
    "platform_system": "Linux",
    "os_name": "posix",
    "implementation_name": "cpython",
    "platform_python_implementation": "CPython",
    "python_version": "3.11",
    "python_full_version": "3.11.2",
    "extra": "",
}
_VERSION: Final = re.compile(r"^version = \"(.+)\"$", re.MULTILINE)
_ARCHIVE: Final = re.compile(r"(?P<name>.+?)-(?P<version>\d[^/]*)\.jar")
_DPKG: Final = ("dpkg-query", "--show", "--showformat", r"${Package}\t${Version}\t${Architecture}\n")


@dataclass(frozen=True, slots=True)
class Part:
    """A component of an image. `kind` is the type of its package URL; `checksum` SHA-256 in hexadecimal, or empty."""

    kind: str
    group: str
    name: str
    version: str
    licences: tuple[str, ...] = ()
    checksum: str = ""


def python_parts(image: str) -> Iterator[Part]:
    """Yield what pip installs into an image: the lines of its lock that hold on Linux."""
    text = (ROOT / image / "requirements.lock").read_text("utf-8").replace("\\\n", " ")
    for line in text.splitlines():
        requirement = Requirement(line.partition(" --hash")[0].strip())
        if requirement.marker is None or requirement.marker.evaluate(_TARGET):
            name = canonicalize_name(requirement.name)
            yield Part("pypi", "", name, str(requirement.specifier).lstrip("="), of_distribution(name))


@cache
def java_parts() -> tuple[Part, ...]:
    """Return the archives of the jobs: K2's own and Spark's."""
    own = [jar for jar in read_lock() if jar.set in {SPARK, S3}]
    absent = set(missing(SPARK, S3))
    files = {jar.file for jar in own}
    return (
        *(Part("maven", jar.group, jar.artifact, jar.version, _licences(jar, absent), jar.sha256) for jar in own),
        *(_of_spark(path) for path in sorted((spark_home() / "jars").glob("*.jar")) if path.name not in files),
    )


def _licences(jar: Jar, absent: set[Jar]) -> tuple[str, ...]:
    cached = jar_cache() / jar.set / jar.file
    path = cached if cached.exists() else spark_home() / "jars" / jar.file
    return () if jar in absent else of_archive(path, jar.artifact)


def _of_spark(path: Path) -> Part:
    match = _ARCHIVE.fullmatch(path.name)
    name, version = (match["name"], match["version"]) if match else (path.stem, "")
    return Part("maven", "", name, version, of_archive(path, name), sha256(path))


def debian_parts(image: str, engine: str) -> tuple[Part, ...] | None:
    """Return the distribution's packages of a local image; None where there is no such image, or no engine."""
    words = [engine, "run", "--rm", "--network=none", "--pull=never", f"--entrypoint={_DPKG[0]}", image, *_DPKG[1:]]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    return tuple(Part("deb", "debian", row[0], row[1]) for row in rows) if done.returncode == 0 else None


def document(image: str, version: str, parts: list[Part]) -> str:
    """Return the CycloneDX document of an image, in JSON."""
    bom = Bom()
    root = Component(name=f"k2-{image}", version=version, type=ComponentType.CONTAINER, bom_ref=f"k2-{image}")
    bom.metadata.component = root
    for part in parts:
        url = PackageURL(part.kind, part.group or None, part.name, part.version or None)
        bom.components.add(
            Component(
                bom_ref=str(url),
                name=part.name,
                group=part.group or None,
                version=part.version or None,
                type=ComponentType.LIBRARY,
                purl=url,
                licenses=_stated(part.licences),
                hashes=[HashType(alg=HashAlgorithm.SHA_256, content=part.checksum)] if part.checksum else [],
            )
        )
    bom.register_dependency(root, bom.components)
    return str(JsonV1Dot6(bom).output_as_string(indent=2))


def _stated(licences: tuple[str, ...]) -> list[License]:
    """Return licences for a component: SPDX where they are, names otherwise."""
    if len(licences) == 1 and "/" not in licences[0]:  # the parser of expressions fails on URLs
        return [LicenseFactory().make_from_string(licences[0])]
    return [DisjunctiveLicense(name=name) for name in licences]


def main(words: list[str]) -> int:
    """Write the documents of all images; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m release.sbom", description="List what the images hold.")
    parser.add_argument("--output", type=Path, default=ROOT / "dist/sbom", help="the folder to write to")
    parser.add_argument("--engine", default=os.environ.get("DOCKER", "docker"), help="the container engine")
    parser.add_argument("--prefix", default=os.environ.get("K2_IMAGE_PREFIX", ""), help="prefix of the image names")
    options = parser.parse_args(words)
    version = _VERSION.search((ROOT / "pyproject.toml").read_text("utf-8"))
    assert version is not None
    options.output.mkdir(parents=True, exist_ok=True)
    every = dict[Part, list[str]]()
    for image in IMAGES:
        parts = [*python_parts(image), *(java_parts() if image == "jobs" else ())]
        system = debian_parts(f"{options.prefix}/{image}:{version[1]}", options.engine) if options.prefix else None
        parts += system or ()
        (options.output / f"{image}.cdx.json").write_text(document(image, version[1], parts), "utf-8")
        note = "" if system is not None else "; without the distribution's packages: the image is not here"
        print(f"{image}: {len(parts)} components{note}")
        for part in parts:
            every.setdefault(part, []).append(image)
    with (options.output / "licences.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("kind", "component", "version", "licences", "images"))
        for part, images in sorted(every.items(), key=lambda item: (item[0].kind, item[0].name, item[0].version)):
            name = f"{part.group}:{part.name}" if part.kind == "maven" and part.group else part.name
            table.writerow((part.kind, name, part.version, " | ".join(part.licences), " ".join(images)))
    if silent := sorted({part.name for part in every if not part.licences and part.kind != "deb"}):
        print(f"Without a licence that could be read here: {', '.join(silent)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
