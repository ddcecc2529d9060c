"""`python -m k2.jobs --feed FILE --layer LAYER`: the jobs image's entry point.

Exit codes: 0 drained and stopped, 1 a layer failed, 2 bad input, 3 a needed service could not be reached.
"""

import argparse
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from k2.common import logs
from k2.common.platform import Platform
from k2.common.validation_errors import InvalidSpec
from k2.jobs import bootstrap
from k2.jobs.app import App, LayerFailed
from k2.jobs.commit import retry
from k2.jobs.commit.checkpoints import BrokenCheckpoint
from k2.jobs.spark.jvm import gateway, jars
from k2.jobs.spark.jvm.java import NoJava
from k2.jobs.spark.jvm.shutdown import DrainFirst
from k2.jobs.spark.tables import TableDrifted
from k2.jobs.stream import BRONZE, GOLD, SILVER, CheckpointInUse
from k2.jobs.telemetry import error_summary
from k2.schemas.feed.model import ExchangeFeed

log = logs.get("jobs")

LAYERS = {"all": (BRONZE, SILVER, GOLD), BRONZE: (BRONZE,), SILVER: (SILVER,), GOLD: (GOLD,)}


def main() -> int:
    """Runs layers until SIGTERM or SIGINT."""
    arguments = _arguments()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        platform = Platform.read()
        logs.configure(platform.log_format, platform.log_level)
        _run(bootstrap.feeds_of(arguments.feed), platform, arguments, stop)
    except (InvalidSpec, OSError, NoJava, TableDrifted) as error:
        code, words = 2, str(error)
    except jars.JarsUnavailable as error:
        code, words = 3, str(error)
    except (LayerFailed, BrokenCheckpoint, CheckpointInUse, gateway.JvmFailed) as error:
        code, words = 1, str(error)
    except retry.ERRORS as error:  # Spark's own and Java's, such as a catalog that refuses
        log.exception("failed")
        code, words = 1, error_summary.told(error_summary.text(error))
    else:
        return 0
    print(words, file=sys.stderr)
    error_summary.leave_word(words)
    return code


def _run(
    feeds: Sequence[ExchangeFeed], platform: Platform, arguments: argparse.Namespace, stop: threading.Event
) -> None:
    provided = gateway.provided()
    spark = bootstrap.connect(platform, arguments.master, arguments.memory)
    hook = DrainFirst(spark, stop) if provided else None
    app = App(spark, platform, feeds, LAYERS[arguments.layer], restart=arguments.restart)
    app.serve(arguments.host, arguments.port)
    try:
        app.run(stop)
    finally:
        if hook is not None:
            hook.drained()
        spark.stop()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="k2.jobs", description="Medallion layers of feeds, from Kafka to Iceberg.")
    parser.add_argument("--feed", type=Path, action="append", required=True, help="an ExchangeFeed in YAML")
    parser.add_argument("--layer", choices=sorted(LAYERS), default="all")
    parser.add_argument("--host", default="127.0.0.1", help="where /metrics and /status listen")
    parser.add_argument("--port", type=int, default=9102)
    bootstrap.add_jvm(parser)
    parser.add_argument("--restart", action="store_true", help="start a failed query again while the others go on")
    return parser.parse_args()


if __name__ == "__main__":
    bootstrap.leave(main())
