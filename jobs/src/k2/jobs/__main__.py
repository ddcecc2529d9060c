"""`python -m k2.jobs --feed FILE --layer LAYER`: the entry point of the jobs image.

Exit codes: 0 drained and stopped, 1 a layer failed, 2 bad input, 3 a required service is unavailable.
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
from k2.jobs.spark.jvm.java import JavaNotFound
from k2.jobs.spark.jvm.shutdown import DrainHook
from k2.jobs.spark.tables import TableDrifted
from k2.jobs.stream import BRONZE, GOLD, SILVER, CheckpointInUse
from k2.jobs.telemetry import error_summary
from k2.schemas.feed.model import ExchangeFeed

log = logs.get("jobs")

LAYERS = {"all": (BRONZE, SILVER, GOLD), BRONZE: (BRONZE,), SILVER: (SILVER,), GOLD: (GOLD,)}


def main() -> int:
    """Run layers until SIGTERM or SIGINT; return the exit code."""
    arguments = _arguments()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        platform = Platform.read()
        logs.configure(platform.log_format, platform.log_level)
        _run(bootstrap.read_feeds(arguments.feed), platform, arguments, stop)
    except (InvalidSpec, OSError, JavaNotFound, TableDrifted) as error:
        code, message = 2, str(error)
    except jars.JarsUnavailable as error:
        code, message = 3, str(error)
    except (LayerFailed, BrokenCheckpoint, CheckpointInUse, gateway.JvmFailed) as error:
        code, message = 1, str(error)
    except retry.ERRORS as error:  # errors of Spark and Java, such as an unreachable catalog
        log.exception("failed")
        code, message = 1, error_summary.summarize(error_summary.full_text(error))
    else:
        return 0
    print(message, file=sys.stderr)
    error_summary.write_termination_message(message)
    return code


def _run(
    feeds: Sequence[ExchangeFeed], platform: Platform, arguments: argparse.Namespace, stop: threading.Event
) -> None:
    cluster_mode = gateway.is_provided()
    spark = bootstrap.connect(platform, arguments.master, arguments.memory)
    hook = DrainHook(spark, stop) if cluster_mode else None
    app = App(spark, platform, feeds, LAYERS[arguments.layer], restart=arguments.restart)
    app.serve(arguments.host, arguments.port)
    try:
        app.run(stop)
    finally:
        if hook is not None:
            hook.release()
        spark.stop()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="k2.jobs", description="Run the medallion layers of feeds, from Kafka to Iceberg."
    )
    parser.add_argument(
        "--feed", type=Path, action="append", required=True, help="ExchangeFeed manifest (YAML); repeatable"
    )
    parser.add_argument("--layer", choices=sorted(LAYERS), default="all")
    parser.add_argument("--host", default="127.0.0.1", help="address for /metrics and /status")
    parser.add_argument("--port", type=int, default=9102)
    bootstrap.add_jvm_arguments(parser)
    parser.add_argument("--restart", action="store_true", help="restart a failed query while the others continue")
    return parser.parse_args()


if __name__ == "__main__":
    bootstrap.exit_process(main())
