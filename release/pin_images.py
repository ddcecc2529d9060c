"""Write the digests of the charts' images into their values (`make pin-images`).

    python -m release.pin_images                          every image of both charts
    python -m release.pin_images postgres k2-platform/mc  only these
    python -m release.pin_images --resolve IMAGE:TAG      print IMAGE@DIGEST, change nothing

Each digest is computed from the manifest that the image's registry serves for the tag. Unless all could be looked up,
nothing is written, and the exit code is 1.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml
from httpx2 import Client

from release.registry import DigestUnavailable, digest

CHARTS: Final = Path(__file__).parents[1] / "charts"

Lookup = Callable[[str, str], str]  # repository, tag -> digest


@dataclass(frozen=True, slots=True)
class Image:
    """One of a chart's `images`, and where in the text of values.yaml its digest is."""

    chart: str
    name: str
    repository: str
    tag: str
    start: int
    end: int

    def is_meant(self, words: list[str]) -> bool:
        """Whether a command's words name it; no words name all."""
        return not words or self.name in words or f"{self.chart}/{self.name}" in words


def images(chart: Path) -> Iterator[Image]:
    """Yield the images of a chart, with the tag that an empty one stands for: the appVersion."""
    version = str(yaml.safe_load((chart / "Chart.yaml").read_text("utf-8"))["appVersion"])
    node = _fields(yaml.compose((chart / "values.yaml").read_text("utf-8"), yaml.SafeLoader))["images"]
    for name, image in _fields(node).items():
        fields = _fields(image)
        place = fields["digest"]
        tag = fields["tag"].value or version
        yield Image(chart.name, name, fields["repository"].value, tag, place.start_mark.index, place.end_mark.index)


def pin(charts: Path, words: list[str], lookup: Lookup) -> list[str]:
    """Write digests into the values of the charts in a folder; return what kept it from that, one line an image."""
    problems, texts, named = [], {}, set[str]()
    digests: dict[tuple[str, str], str] = {}
    for chart in sorted(path.parent for path in charts.glob("*/Chart.yaml")):
        text = (chart / "values.yaml").read_text("utf-8")
        for image in sorted(images(chart), key=lambda image: -image.start):
            if not image.is_meant(words):
                continue
            named |= {image.name, f"{image.chart}/{image.name}"}
            key = (image.repository, image.tag)
            try:
                digests[key] = digests.get(key) or lookup(*key)
            except DigestUnavailable as error:
                problems.append(f"{image.chart}/{image.name} ({image.repository}:{image.tag}): {error}")
                continue
            text = f'{text[: image.start]}"{digests[key]}"{text[image.end :]}'
        texts[chart / "values.yaml"] = text
    problems += [f"no chart has an image {word}" for word in words if word not in named]
    if not problems:
        for path, text in texts.items():
            path.write_text(text, "utf-8")
    return problems


def _fields(node: yaml.Node | None) -> dict[str, yaml.Node]:
    assert isinstance(node, yaml.MappingNode)
    return {key.value: value for key, value in node.value}


def main(words: list[str]) -> int:
    """Pin, or resolve one image; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m release.pin_images", description="Pin the charts' images.")
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="names such as postgres or k2-platform/mc")
    parser.add_argument("--resolve", metavar="IMAGE:TAG", help="print this image with its digest instead")
    options = parser.parse_args(words)
    with Client(timeout=20, follow_redirects=True) as client:
        if options.resolve:
            repository, _, tag = options.resolve.rpartition(":")
            try:
                print(f"{repository}@{digest(client, repository, tag)}")
            except DigestUnavailable as error:
                print(error, file=sys.stderr)
                return 1
            return 0
        problems = pin(CHARTS, options.images, lambda repository, tag: digest(client, repository, tag))
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        print("Nothing was written: a digest that no registry confirmed is never pinned.", file=sys.stderr)
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
