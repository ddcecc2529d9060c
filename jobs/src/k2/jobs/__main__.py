"""`python -m k2.jobs --feed FILE --layer LAYER`: the entry point of the jobs image."""

import argparse
import signal
import threading
from collections.abc import Sequence

from k2.common import logs
from k2.common.platform import Platform
from k2.jobs import bootstrap
from k2.jobs.app import App, LayerFailed
from k2.jobs.commit import retry
from k2.jobs.commit.checkpoints import BrokenCheckpoint
from k2.jobs.spark.jvm import gateway
from k2.jobs.spark.jvm.shutdown import DrainHook
from k2.jobs.stream import BRONZE, GOLD, SILVER, CheckpointInUse
from k2.schemas.feed.model import ExchangeFeed

log = logs.get("jobs")

LAYERS = {"all": (BRONZE, SILVER, GOLD), BRONZE: (BRONZE,), SILVER: (SILVER,), GOLD: (GOLD,)}


def main(argv: Sequence[str] | None = None) -> int:
    """Run layers until SIGTERM or SIGINT; return the exit code."""
    return bootstrap.Command(
        name="k2.jobs",
        description="Run the medallion layers of feeds, from Kafka to Iceberg.",
        add_arguments=_add_arguments,
        work=_run_until_signal,
        work_errors=(LayerFailed, BrokenCheckpoint, CheckpointInUse),
    ).run(argv)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    bootstrap.add_feeds(parser)
    parser.add_argument("--layer", choices=sorted(LAYERS), default="all")
    parser.add_argument("--host", default="127.0.0.1", help="address for /metrics and /status")
    parser.add_argument("--port", type=int, default=9102)
    parser.add_argument("--restart", action="store_true", help="restart a failed query while the others continue")
    parser.add_argument("--audit", action="store_true", help="audit everything hourly, and at the end")


def _run_until_signal(arguments: argparse.Namespace, platform: Platform) -> int:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    feeds = bootstrap.read_feeds(arguments.feed)
    try:
        _run(feeds, platform, arguments, stop)
    except retry.ERRORS:  # errors of Spark and Java, such as an unreachable catalog
        log.exception("failed")
        raise
    return 0


def _run(
    feeds: Sequence[ExchangeFeed], platform: Platform, arguments: argparse.Namespace, stop: threading.Event
) -> None:
    cluster_mode = gateway.is_provided()
    spark = bootstrap.connect(platform, arguments.master, arguments.memory)
    hook = DrainHook(spark, stop) if cluster_mode else None
    app = App(spark, platform, feeds, LAYERS[arguments.layer], restart=arguments.restart, audit=arguments.audit)
    app.serve(arguments.host, arguments.port)
    try:
        app.run(stop)
    finally:
        if hook is not None:
            hook.release()
        spark.stop()


if __name__ == "__main__":
    bootstrap.exit_process(main())
