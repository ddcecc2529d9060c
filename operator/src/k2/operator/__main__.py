"""Entry point of the container: `python -m k2.operator [--metrics PORT] [--lease NAMESPACE/NAME]`.

Other options are passed to `kopf run`. Of all processes with one lease one is active, and the others stand by; without
`--lease`, this one is always active.
"""

import argparse
import importlib
import logging
import os
import socket
import sys
import uuid
from collections.abc import Sequence

from kopf.cli import main

from k2.common import logs, tracing
from k2.common.validation_errors import InvalidSpec
from k2.operator import probes
from k2.operator.api import election
from k2.operator.api.cluster import Cluster, connect

_HANDLERS = "k2.operator.handlers"


def run(arguments: Sequence[str]) -> None:
    """Serve metrics if `--metrics` is given, wait for the lease if `--lease` is given, then run kopf."""
    parser = argparse.ArgumentParser(prog="k2.operator", add_help=False)
    parser.add_argument("--metrics", type=int, metavar="PORT", help="serve /metrics and /readyz on this port")
    parser.add_argument("--liveness", metavar="URL", default="", help="where /healthz is served, by kopf when active")
    parser.add_argument("--lease", metavar="NAMESPACE/NAME", default="", help="Lease by which one process is active")
    own, others = parser.parse_known_args(arguments)
    namespace, _, name = own.lease.partition("/")
    if own.lease and not (namespace and name):
        parser.error("--lease must be the namespace and the name of a Lease: NAMESPACE/NAME")
    try:
        tracing.configure("operator")
    except InvalidSpec as error:
        parser.error(str(error))
    logs.configure(os.environ.get("K2_LOG_FORMAT", "json"), os.environ.get("K2_LOG_LEVEL", "info"))
    logging.captureWarnings(capture=True)  # as log lines, not on stderr
    log_format = "json" if os.environ.get("K2_LOG_FORMAT", "json") == "json" else "full"
    if own.liveness:
        others = [f"--liveness={own.liveness}", *others]
    sys.argv[1:] = ["run", "--standalone", f"--log-format={log_format}", "--module", _HANDLERS, *others]
    if not own.lease:
        if own.metrics is not None:
            probes.serve_metrics(own.metrics, lambda: "")
        main()
        return
    identity = f"{socket.gethostname()}_{uuid.uuid4()}"
    candidate = election.Election(Cluster(connect(retries=False)), namespace, name, identity)
    if own.metrics is not None:
        probes.serve_metrics(own.metrics, lambda: candidate.error)
    importlib.import_module(_HANDLERS)  # so that taking over needs no time for it
    with probes.standing_by(own.liveness):
        candidate.acquire()
    election.install(candidate)
    try:
        main()
    finally:
        candidate.release()


if __name__ == "__main__":
    run(sys.argv[1:])
