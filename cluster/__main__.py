"""`python -m cluster up|down|sizes|diagnostics`: create a cluster with K2 and simulated exchanges, or delete it.

Each step is idempotent, so a second `up` is cheap. Exit codes: 0 success, 1 a step failed, 2 invalid arguments.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from cluster import dependencies, diagnostics, platform, sizes
from cluster.providers import Existing, Provider, provider
from cluster.shell import LOGS, StepFailed, missing, step

_NEXT = """
K2 is running on your cluster. Next:

  export KUBECONFIG={kubeconfig}
  kubectl get feeds -n k2                      # phase, freshness and gaps
  kubectl describe feed binance -n k2          # conditions and events
  kubectl create job audit-now --from=cronjob/k2-audit -n k2 && kubectl logs -n k2 -f job/audit-now
  kubectl get secret k2-query-keys -n k2 -o jsonpath='{{.data.key}}' | base64 -d; echo
  kubectl port-forward -n k2 svc/k2-query 8000                   # http://localhost:8000/console/ needs that key
  kubectl port-forward -n monitoring svc/prometheus-operated 9090
  make cluster-down
"""


def main(words: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    command = _arguments(words).command
    try:
        chosen = provider(os.environ)
        {"up": up, "down": down, "sizes": show_sizes, "diagnostics": collect_diagnostics}[command](chosen)
    except StepFailed as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def up(target: Provider) -> None:
    """Create the cluster, and install K2 with feeds that become Ready."""
    times: dict[str, float] = {}
    with step("the whole cluster", times):
        _steps(target, times)
    LOGS.mkdir(exist_ok=True)
    (LOGS / "times.json").write_text(json.dumps({name: round(seconds, 1) for name, seconds in times.items()}, indent=2))
    print(_NEXT.format(kubeconfig=target.env["KUBECONFIG"]))


def _steps(target: Provider, times: dict[str, float]) -> None:
    with step("Kubernetes", times):
        target.up()
    if absent := missing("kubectl", "helm", "make", env=target.env):
        raise StepFailed(f"install {', '.join(absent)}: not found in PATH")
    with step("namespaces", times):
        platform.namespaces(target.env)
    build_and_install(target, times)
    with step("load K2's images", times):
        target.load_images(platform.images())
    with step("charts of K2", times):
        platform.install(target)
    with step("simulated exchanges and feeds", times):
        platform.feeds(target.env)
    with step("feeds Ready", times):
        platform.wait_ready(target.env)


def build_and_install(target: Provider, times: dict[str, float]) -> None:
    """Build K2's images, and meanwhile install what K2 depends on.

    Builds need the cores, installs mostly wait for pods: side by side they take little longer than either.
    """
    with ThreadPoolExecutor(max_workers=1) as pool:
        bases = pool.submit(_build_bases, target, times)
        build = pool.submit(_build, target, times)
        _dependencies(target, times, bases)
        build.result()


def _build_bases(target: Provider, times: dict[str, float]) -> None:
    with step("base images", times):
        target.build_base_images()


def _build(target: Provider, times: dict[str, float]) -> None:
    with step("images of K2", times):
        platform.build(target)


def _dependencies(target: Provider, times: dict[str, float], bases: Future[None]) -> None:
    with step("NetworkPolicy enforcement", times):
        dependencies.network_policies(target)
    with step("Strimzi", times):
        dependencies.strimzi(target)
    bases.result()  # the Spark operator's image is one of them with a program more; two builds at a time would collide
    with step("Spark operator", times):
        dependencies.spark_operator(target, platform.NAMESPACE)
    with step("Prometheus", times):
        dependencies.prometheus(target)
    with step("images of the platform", times):
        target.load_third_party(platform.THIRD_PARTY)


def down(target: Provider) -> None:
    """Delete the cluster, or uninstall K2 from a cluster that existed before."""
    if isinstance(target, Existing):
        with step("uninstall K2"):
            platform.uninstall(target.env)
        return
    with step("delete the cluster"):
        target.down()


def show_sizes(target: Provider) -> None:
    """Print requests and usage of each pod, and the start-up time of each application."""
    target.up()
    print(sizes.resource_table(target.env), sizes.startup_table(target.env), sep="\n\n")


def collect_diagnostics(target: Provider) -> None:
    """Write events, descriptions and logs to `.cluster/diagnostics`; print what is unusual."""
    target.up()
    print(diagnostics.collect(target.env, LOGS / "diagnostics"))
    print(diagnostics.summary(target.env))


def _arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="cluster", description="K2 on a local Kubernetes cluster.")
    parser.add_argument("command", choices=("up", "down", "sizes", "diagnostics"))
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
