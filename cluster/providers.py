"""Cluster providers: the kit of `K2_KIT`, an existing cluster of KUBECONFIG, or a new kind cluster.

Each provides an environment in which `kubectl` reaches the cluster, and a way to load images into it.
"""

import os
import shlex
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, Protocol

from cluster import shell
from cluster.shell import LOGS, ROOT, StepFailed, run

NAME: Final = "k2"
_KUBECONFIG: Final = LOGS / "kubeconfig"
_NO_STATUS: Final = ".status.conditions accessor error: <nil>"  # kubectl wait, on a CRD that was created just before
_RETRY_DELAY: Final = 5.0


class Provider(Protocol):
    """Create a cluster, or use an existing one."""

    env: dict[str, str]

    def up(self) -> None:
        """Make sure that the cluster runs."""

    def build_base_images(self) -> None:
        """Build the base images, where they cannot be pulled."""

    def load_images(self, images: Iterable[str]) -> None:
        """Load local images into the cluster."""

    def load_third_party(self, names: Iterable[str]) -> None:
        """Load third-party images, where the cluster cannot pull them."""

    def down(self) -> None:
        """Delete the cluster if this module created it."""


class Kit:
    """A cluster of the kit, with its own third-party images, for machines without an image registry."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = shell.environment()

    def up(self) -> None:
        """Start Docker, the kit's programs and the cluster."""
        self._read_exports(run(str(self.folder / "up"), env=self.env))

    def build_base_images(self) -> None:
        """Build the base images."""
        run(str(self.folder / "images"), *_BASES, env=self.env)

    def load_images(self, images: Iterable[str]) -> None:
        """Load the layers that the node does not have."""
        run(str(self.folder / "load"), *images, env=self.env)

    def load_third_party(self, names: Iterable[str]) -> None:
        """Build the third-party images and load them."""
        images = [_IMAGES[name] for name in names]
        if programs := dict.fromkeys(tool for _, _, tools in images for tool in tools):
            run(str(self.folder / "tools"), *programs, env=self.env)
        run(str(self.folder / "images"), *(name for name, _, _ in images), env=self.env)
        self.load_images([image for _, image, _ in images])

    def script(self, name: str) -> None:
        """Run one of the kit's idempotent installers; retry once if a CRD had no status yet."""
        try:
            run(str(self.folder / name), env=self.env)
        except StepFailed as error:
            if _NO_STATUS not in str(error):
                raise
            time.sleep(_RETRY_DELAY)
            run(str(self.folder / name), env=self.env)

    def down(self) -> None:
        """Delete the cluster, but keep the built images."""
        run(str(self.folder / "down"), env=self.env)

    def _read_exports(self, output: str) -> None:
        """Set the environment from lines of `export NAME=value`, parsed as a shell does."""
        for line in output.splitlines():
            words = shlex.split(line)
            if words[:1] == ["export"]:
                for word in words[1:]:
                    name, _, value = word.partition("=")
                    self.env[name] = value.replace("$PATH", self.env["PATH"])


class Kind:
    """A kind cluster of one node. `K2_KIND_IMAGE` names the node's image."""

    def __init__(self) -> None:
        self.env = shell.environment()
        LOGS.mkdir(exist_ok=True)
        self.env["KUBECONFIG"] = str(_KUBECONFIG)

    def up(self) -> None:
        """Create the cluster, or reuse an existing one."""
        if NAME in run("kind", "get", "clusters", env=self.env).split():
            run("kind", "export", "kubeconfig", "--name", NAME, env=self.env)
            return
        image = ["--image", os.environ["K2_KIND_IMAGE"]] if os.environ.get("K2_KIND_IMAGE") else []
        config = ["--config", str(ROOT / "manifests" / "kind" / "cluster.yaml")]
        run("kind", "create", "cluster", "--name", NAME, *image, *config, "--wait", "180s", env=self.env)

    def build_base_images(self) -> None:
        """Do nothing: Docker pulls base images."""

    def load_images(self, images: Iterable[str]) -> None:
        """Copy the images into the node."""
        run("kind", "load", "docker-image", "--name", NAME, *images, env=self.env)

    def load_third_party(self, names: Iterable[str]) -> None:
        """Do nothing: the node pulls images."""

    def down(self) -> None:
        """Delete the cluster."""
        run("kind", "delete", "cluster", "--name", NAME, env=self.env)


class Existing:
    """A cluster that exists already. Images are pushed to the registry in their names."""

    def __init__(self, kubeconfig: str) -> None:
        self.env = shell.environment() | {"KUBECONFIG": kubeconfig}

    def up(self) -> None:
        """Check that the API server is ready."""
        run("kubectl", "get", "--raw", "/readyz", env=self.env, timeout=30)

    def build_base_images(self) -> None:
        """Do nothing: Docker pulls base images."""

    def load_images(self, images: Iterable[str]) -> None:
        """Push the images to the registry of `K2_IMAGE_PREFIX`."""
        if not os.environ.get("K2_IMAGE_PREFIX"):
            raise StepFailed(
                "set K2_IMAGE_PREFIX to a registry that this machine can push to and the cluster can pull from"
            )
        for image in images:
            run(os.environ.get("DOCKER", "docker"), "push", image, env=self.env)

    def load_third_party(self, names: Iterable[str]) -> None:
        """Do nothing: the nodes pull images."""

    def down(self) -> None:
        """Do nothing: only K2 is removed (`platform.uninstall`)."""


def provider(environment: Mapping[str, str]) -> Provider:
    """Return the provider that the environment variables select."""
    if kit := environment.get("K2_KIT"):
        return Kit(Path(kit))
    kubeconfig = environment.get("KUBECONFIG")
    if kubeconfig and Path(kubeconfig) != _KUBECONFIG:  # not the kind cluster created here
        return Existing(kubeconfig)
    return Kind()


_BASES: Final = ("python", "spark")
# The kit's name of each image, its public name, and the kit's programs that it contains.
_IMAGES: Final[dict[str, tuple[str, str, tuple[str, ...]]]] = {
    "spark-operator": ("spark_operator", "ghcr.io/kubeflow/spark-operator/controller:2.5.0", ("spark_operator",)),
    "postgres": ("postgres", "postgres:15-bookworm", ()),
    "minio": ("minio", "quay.io/minio/minio:RELEASE.2025-09-07T16-13-09Z", ("minio", "mc")),
    "mc": ("minio", "quay.io/minio/mc:RELEASE.2025-08-13T08-35-41Z", ("minio", "mc")),
    "registry": ("apicurio", "quay.io/apicurio/apicurio-registry:3.3.3", ()),
}
