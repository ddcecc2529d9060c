"""Licences of Python distributions and Java archives, as they state them themselves."""

import re
from importlib import metadata
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET
from zipfile import ZipFile

_MOST_NAME: Final = 80  # some put the whole text into the field
_POM: Final = re.compile(r"META-INF/maven/[^/]+/([^/]+)/pom\.xml")
_MANIFEST: Final = re.compile(r"^Bundle-License: *(.+?)\s*$", re.MULTILINE)
_FIRST_LINES: Final = re.compile(r"\s*(\S[^\n]*)\n\s*(Version [^\n,]+)?")


def of_distribution(name: str) -> tuple[str, ...]:
    """Return what an installed Python distribution says its licence is: its expression, or its classifiers' names."""
    try:
        fields = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return ()
    if "License-Expression" in fields:
        return (fields["License-Expression"],)
    classifiers = [text for text in fields.get_all("Classifier") or () if text.startswith("License :: ")]
    named = [text.rpartition(" :: ")[2] for text in classifiers if text.count(" :: ") > 1]
    stated = (fields.get_all("License") or [""])[0].strip().partition("\n")[0]
    return tuple(named) or ((stated,) if 0 < len(stated) <= _MOST_NAME else ())


def of_archive(path: Path, artifact: str) -> tuple[str, ...]:
    """Return what a Java archive says: in its POM, its manifest, or the first lines of its licence file."""
    with ZipFile(path) as archive:
        names = archive.namelist()
        for name in names:
            if (match := _POM.fullmatch(name)) and match[1] == artifact and (named := _of_pom(archive.read(name))):
                return named
        if "META-INF/MANIFEST.MF" in names:
            manifest = archive.read("META-INF/MANIFEST.MF").decode("utf-8", "replace").replace("\r\n ", "")
            if stated := _MANIFEST.search(manifest):
                return (stated[1].partition(";")[0].strip('"'),)
        for name in ("META-INF/LICENSE", "META-INF/LICENSE.txt", "LICENSE", "LICENSE.txt"):
            if name in names and (first := _FIRST_LINES.match(archive.read(name).decode("utf-8", "replace"))):
                return (" ".join(line.strip() for line in first.groups() if line),)
    return ()


def _of_pom(text: bytes) -> tuple[str, ...]:
    # The archives are those of jars.lock and of pyspark, whose hashes were checked.
    root = ET.fromstring(text)  # noqa: S314
    space = root.tag.partition("}")[0] + "}" if root.tag.startswith("{") else ""
    names = root.findall(f"./{space}licenses/{space}license/{space}name")
    return tuple(name.text.strip() for name in names if name.text and name.text.strip())
