"""`python -m k2.operator [--metrics PORT]`: the container's entry point. Other options are those of `kopf run`.

With `--peering NAME` operators agree by `--priority` which of them works; without, this one works whoever else does.
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from kopf.cli import main
from prometheus_client import start_http_server

_HANDLERS = "k2.operator.handlers"


def run(words: Sequence[str]) -> None:
    """Serves metrics if asked to, and hands over to kopf."""
    parser = argparse.ArgumentParser(prog="k2.operator", add_help=False)
    parser.add_argument("--metrics", type=int, metavar="PORT", help="serve /metrics here")
    parser.add_argument("-P", "--peering", metavar="NAME", help="a KopfPeering of every feed namespace")
    own, others = parser.parse_known_args(words)
    if own.metrics is not None:
        start_http_server(own.metrics)
    logging.captureWarnings(capture=True)  # a warning is a line of the log like any other
    log_format = "json" if os.environ.get("K2_LOG_FORMAT", "json") == "json" else "full"
    peers = f"--peering={own.peering}" if own.peering else "--standalone"
    sys.argv[1:] = ["run", peers, f"--log-format={log_format}", "--module", _HANDLERS, *others]
    main()


if __name__ == "__main__":
    run(sys.argv[1:])
