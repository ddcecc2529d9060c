"""Rules for container images, checked in Dockerfiles and lock files."""

import re
import shlex
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
USERS = {"operator": "10001:10001", "ingest": "10001:10001", "jobs": "185:185", "query": "10001:10001"}
# Packages that each image needs, and packages that it must not have.
NEEDS = {
    "operator": ({"kopf", "kubernetes"}, {"pyspark", "psutil"}),
    "ingest": ({"aiohttp", "psutil"}, {"pyspark", "kopf", "kubernetes"}),
    "jobs": ({"py4j"}, {"pyspark", "kopf", "kubernetes", "aiohttp"}),
    "query": ({"bn-lightweight-charts", "duckdb", "fastapi", "uvicorn"}, {"pyspark", "kopf", "kubernetes", "aiohttp"}),
}
images = pytest.mark.parametrize("image", sorted(USERS))


def instructions(image: str) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile with their arguments, with continued lines joined."""
    text = (ROOT / image / "Dockerfile").read_text()
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip() and not line.startswith("#")]
    return [(word.upper(), rest) for word, _, rest in (line.partition(" ") for line in lines)]


def pins(path: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9._-]+)==([^ ;\\]+)", path.read_text(), re.MULTILINE))


@images
def test_the_last_user_is_a_number_and_not_root(image: str):
    users = [rest for word, rest in instructions(image) if word == "USER"]
    assert users[-1] == USERS[image]


@pytest.mark.parametrize("image", ["operator", "ingest", "query"])
def test_a_user_that_the_image_does_not_know_has_a_name_and_a_home(image: str):
    variables = dict(pair.split("=", 1) for word, rest in instructions(image) if word == "ENV" for pair in rest.split())
    assert variables["LOGNAME"]
    assert variables["HOME"] == "/tmp"


@images
def test_nothing_is_fetched_but_by_package_managers(image: str):
    for word, rest in instructions(image):
        assert word != "ADD"
        assert not re.search(r"\b(curl|wget)\b|https?://", rest)


@images
def test_pip_installs_only_what_the_lock_holds(image: str):
    installs = [
        command
        for word, rest in instructions(image)
        if word == "RUN"
        for command in re.split(r"&&|\|\||;", rest)
        if re.search(r"\bpip install\b", command)
    ]
    assert installs
    for command in installs:
        words = shlex.split(command)
        assert "--require-hashes" in words
        assert words[words.index("--requirement") + 1].endswith("requirements.lock")


@images
def test_bases_can_be_replaced_and_are_named_by_version(image: str):
    arguments = dict(rest.split("=") for word, rest in instructions(image) if word == "ARG" and "IMAGE=" in rest)
    stages = {rest.split(" AS ")[1] for word, rest in instructions(image) if word == "FROM" and " AS " in rest}
    bases = {rest.split()[0] for word, rest in instructions(image) if word == "FROM"} - stages
    assert bases == {f"${{{name}}}" for name in arguments}
    for base in arguments.values():
        assert re.fullmatch(r"[a-z]+:[0-9]+\.[0-9][-.a-z0-9]*", base)


@images
def test_the_classic_builder_understands_it(image: str):
    for _, rest in instructions(image):
        assert not re.search(r"--mount|--chmod|--link|<<", rest)


@images
def test_versions_are_those_that_are_tested(image: str):
    everything, own = pins(ROOT / "requirements.lock"), pins(ROOT / image / "requirements.lock")
    assert own
    assert {name: version for name, version in own.items() if everything.get(name) != version} == {}


@images
def test_each_image_holds_what_it_needs_and_nothing_of_the_others(image: str):
    needed, foreign = NEEDS[image]
    packages = pins(ROOT / image / "requirements.lock").keys()
    assert needed <= packages
    assert not foreign & packages


def test_the_jobs_stand_on_the_spark_that_is_tested():
    (base,) = [rest for word, rest in instructions("jobs") if rest.startswith("SPARK_IMAGE=")]
    assert base == f"SPARK_IMAGE=spark:{pins(ROOT / 'requirements.lock')['pyspark']}-python3"


@images
def test_the_context_holds_all_that_is_copied(image: str):
    let_in = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copies = [rest.split()[:-1] for word, rest in instructions(image) if word == "COPY" and "--from" not in rest]
    assert copies
    for path in chain.from_iterable(copies):
        assert any(path.rstrip("/") == entry or path.startswith(f"{entry}/") for entry in let_in)
        assert (ROOT / path).exists()
