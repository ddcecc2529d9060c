"""Where the cluster comes from: the kit that `K2_KIT` names, the one that KUBECONFIG names, or one that kind makes.

All give the same: an environment whose `kubectl` speaks to the cluster, and a way to bring images into it.
"""

import os
import shlex
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, Protocol

from cluster import shell
from cluster.shell import LOGS, ROOT, Failed, run

NAME: Final = "k2"
_KUBECONFIG: Final = LOGS / "kubeconfig"
_NO_STATUS: Final = ".status.conditions accessor error: <nil>"  # kubectl wait, of a definition of this moment
_A_MOMENT: Final = 5.0


class Provider(Protocol):
    """A cluster."""

    env: dict[str, str]

    def up(self) -> None:
        """Makes sure that the cluster runs."""

    def bases(self) -> None:
        """Makes sure that there is what images are built on, where it cannot be pulled."""

    def load(self, images: Iterable[str]) -> None:
        """Brings images of this machine into the cluster."""

    def third_party(self, names: Iterable[str]) -> None:
        """Makes sure that the cluster can have other projects' images, where it cannot pull them."""

    def down(self) -> None:
        """Deletes the cluster if K2 made it."""


class Kit:
    """The kit's cluster, and its images of other projects, for machines that have no image registry."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = shell.environment()

    def up(self) -> None:
        """Docker, the kit's programs, the cluster."""
        self._read(run(str(self.folder / "up"), env=self.env))

    def bases(self) -> None:
        """Builds them."""
        run(str(self.folder / "images"), *_BASES, env=self.env)

    def load(self, images: Iterable[str]) -> None:
        """Layers that the node lacks."""
        run(str(self.folder / "load"), *images, env=self.env)

    def third_party(self, names: Iterable[str]) -> None:
        """Builds them and loads them."""
        wanted = [_IMAGES[name] for name in names]
        if tools := dict.fromkeys(tool for _, _, needed in wanted for tool in needed):
            run(str(self.folder / "tools"), *tools, env=self.env)
        run(str(self.folder / "images"), *(name for name, _, _ in wanted), env=self.env)
        self.load([image for _, image, _ in wanted])

    def script(self, name: str) -> None:
        """One of the kit's installers. It may be run again, and is where it met definitions that had no status yet."""
        try:
            run(str(self.folder / name), env=self.env)
        except Failed as failed:
            if _NO_STATUS not in str(failed):
                raise
            time.sleep(_A_MOMENT)
            run(str(self.folder / name), env=self.env)

    def down(self) -> None:
        """Deletes the cluster; what was built stays."""
        run(str(self.folder / "down"), env=self.env)

    def _read(self, said: str) -> None:
        """Lines of `export NAME=value`, as a shell reads them."""
        for line in said.splitlines():
            words = shlex.split(line)
            if words[:1] == ["export"]:
                for word in words[1:]:
                    name, _, value = word.partition("=")
                    self.env[name] = value.replace("$PATH", self.env["PATH"])


class Kind:
    """A cluster of one node that kind makes. `K2_KIND_IMAGE` names the node's image."""

    def __init__(self) -> None:
        self.env = shell.environment()
        LOGS.mkdir(exist_ok=True)
        self.env["KUBECONFIG"] = str(_KUBECONFIG)

    def up(self) -> None:
        """Creates it, or uses the one of an earlier start."""
        if NAME in run("kind", "get", "clusters", env=self.env).split():
            run("kind", "export", "kubeconfig", "--name", NAME, env=self.env)
            return
        image = ["--image", os.environ["K2_KIND_IMAGE"]] if os.environ.get("K2_KIND_IMAGE") else []
        config = ["--config", str(ROOT / "manifests" / "kind" / "cluster.yaml")]
        run("kind", "create", "cluster", "--name", NAME, *image, *config, "--wait", "180s", env=self.env)

    def bases(self) -> None:
        """Docker pulls them by itself."""

    def load(self, images: Iterable[str]) -> None:
        """Copies them into the node."""
        run("kind", "load", "docker-image", "--name", NAME, *images, env=self.env)

    def third_party(self, names: Iterable[str]) -> None:
        """The node pulls them by itself."""

    def down(self) -> None:
        """Deletes the cluster."""
        run("kind", "delete", "cluster", "--name", NAME, env=self.env)


class Existing:
    """A cluster that is there already. Images come from the registry that their names say."""

    def __init__(self, kubeconfig: str) -> None:
        self.env = shell.environment() | {"KUBECONFIG": kubeconfig}

    def up(self) -> None:
        """Asks whether it answers."""
        run("kubectl", "get", "--raw", "/readyz", env=self.env, within=30)

    def bases(self) -> None:
        """Docker pulls them by itself."""

    def load(self, images: Iterable[str]) -> None:
        """Pushes them, if `K2_IMAGE_PREFIX` names a registry that the cluster can pull from."""
        if not os.environ.get("K2_IMAGE_PREFIX"):
            raise Failed("set K2_IMAGE_PREFIX to a registry that you may push to and the cluster may pull from")
        for image in images:
            run(os.environ.get("DOCKER", "docker"), "push", image, env=self.env)

    def third_party(self, names: Iterable[str]) -> None:
        """The nodes pull them by themselves."""

    def down(self) -> None:
        """Others made it: only what K2 installed goes (`platform.uninstall`)."""


def provider(environment: Mapping[str, str]) -> Provider:
    """The cluster that this environment asks for."""
    if kit := environment.get("K2_KIT"):
        return Kit(Path(kit))
    kubeconfig = environment.get("KUBECONFIG")
    if kubeconfig and Path(kubeconfig) != _KUBECONFIG:  # of a shell that was told to look at the cluster made here
        return Existing(kubeconfig)
    return Kind()


_BASES: Final = ("python", "spark")
# The kit's name of each image, its public name, and the kit's programs that go into it.
_IMAGES: Final[dict[str, tuple[str, str, tuple[str, ...]]]] = {
    "spark-operator": ("spark_operator", "ghcr.io/kubeflow/spark-operator/controller:2.5.0", ("spark_operator",)),
    "postgres": ("postgres", "postgres:15-bookworm", ()),
    "minio": ("minio", "quay.io/minio/minio:RELEASE.2025-09-07T16-13-09Z", ("minio", "mc")),
    "mc": ("minio", "quay.io/minio/mc:RELEASE.2025-08-13T08-35-41Z", ("minio", "mc")),
    "registry": ("apicurio", "quay.io/apicurio/apicurio-registry:3.3.3", ()),
}
