"""`python -m cluster up|down|sizes|artefacts`: makes a cluster with K2 and simulated exchanges, and takes it away.

Every step does only what is missing, so `up` again is cheap. Exit codes: 0 done, 1 a step failed, 2 bad input.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence

from cluster import dependencies, diagnostics, platform, sizes
from cluster.providers import Existing, Provider, provider
from cluster.shell import LOGS, Failed, missing, step

_NEXT = """
K2 runs on your cluster. Next:

  export KUBECONFIG={kubeconfig}
  kubectl get feeds -n k2                      # what runs, how fresh, what is missing
  kubectl describe feed binance -n k2          # conditions and events
  kubectl create job audit-now --from=cronjob/k2-audit -n k2 && kubectl logs -n k2 -f job/audit-now
  kubectl get secret k2-query-keys -n k2 -o jsonpath='{{.data.key}}' | base64 -d; echo
  kubectl port-forward -n k2 svc/k2-query 8000                   # http://localhost:8000/console/ asks for that key
  kubectl port-forward -n monitoring svc/prometheus-operated 9090
  make cluster-down
"""


def main(words: Sequence[str]) -> int:
    """Runs one command."""
    command = _arguments(words).command
    try:
        found = provider(os.environ)
        {"up": up, "down": down, "sizes": sized, "artefacts": kept}[command](found)
    except Failed as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def up(found: Provider) -> None:
    """From nothing to feeds that are Ready."""
    times: dict[str, float] = {}
    with step("the whole cluster", times):
        _steps(found, times)
    LOGS.mkdir(exist_ok=True)
    (LOGS / "times.json").write_text(json.dumps({name: round(took, 1) for name, took in times.items()}, indent=2))
    print(_NEXT.format(kubeconfig=found.env["KUBECONFIG"]))


def _steps(found: Provider, times: dict[str, float]) -> None:
    with step("Kubernetes", times):
        found.up()
    if absent := missing("kubectl", "helm", "make", env=found.env):
        raise Failed(f"{', '.join(absent)} not installed")
    with step("namespaces", times):
        platform.namespaces(found.env)
    with step("images of K2", times):
        platform.build(found)
    with step("NetworkPolicy enforcement", times):
        dependencies.network_policies(found)
    with step("Strimzi", times):
        dependencies.strimzi(found)
    with step("Spark operator", times):
        dependencies.spark_operator(found, platform.NAMESPACE)
    with step("Prometheus", times):
        dependencies.prometheus(found)
    with step("charts of K2", times):
        platform.install(found)
    with step("simulated exchanges and feeds", times):
        platform.feeds(found.env)
    with step("feeds Ready", times):
        platform.ready(found.env)


def down(found: Provider) -> None:
    """Deletes what `up` made."""
    if isinstance(found, Existing):
        with step("uninstall K2"):
            platform.uninstall(found.env)
        return
    with step("delete the cluster"):
        found.down()


def sized(found: Provider) -> None:
    """Prints what each pod asks for and uses, and how fast each application started."""
    found.up()
    print(sizes.table(found.env), sizes.starts(found.env), sep="\n\n")


def kept(found: Provider) -> None:
    """Keeps events, descriptions and logs."""
    found.up()
    print(diagnostics.keep(found.env, LOGS / "artefacts"))


def _arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="cluster", description="K2 on a Kubernetes cluster of this machine.")
    parser.add_argument("command", choices=("up", "down", "sizes", "artefacts"))
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
