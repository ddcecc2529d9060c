"""Entry point of the container: `python -m k2.operator [--metrics PORT]`. Other options are passed to `kopf run`.

With `--peering NAME`, the operator with the highest `--priority` is active; without, this one is always active.
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from kopf.cli import main
from prometheus_client import start_http_server

from k2.common import tracing
from k2.common.validation_errors import InvalidSpec

_HANDLERS = "k2.operator.handlers"


def run(arguments: Sequence[str]) -> None:
    """Serve metrics if `--metrics` is given, then run kopf."""
    parser = argparse.ArgumentParser(prog="k2.operator", add_help=False)
    parser.add_argument("--metrics", type=int, metavar="PORT", help="serve /metrics on this port")
    parser.add_argument("-P", "--peering", metavar="NAME", help="name of the KopfPeering in every feed namespace")
    own, others = parser.parse_known_args(arguments)
    try:
        tracing.configure("operator")
    except InvalidSpec as error:
        parser.error(str(error))
    if own.metrics is not None:
        start_http_server(own.metrics)
    logging.captureWarnings(capture=True)  # as log lines, not on stderr
    log_format = "json" if os.environ.get("K2_LOG_FORMAT", "json") == "json" else "full"
    peers = f"--peering={own.peering}" if own.peering else "--standalone"
    sys.argv[1:] = ["run", peers, f"--log-format={log_format}", "--module", _HANDLERS, *others]
    main()


if __name__ == "__main__":
    run(sys.argv[1:])
