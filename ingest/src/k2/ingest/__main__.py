"""`python -m k2.ingest --feed FILE`: entry point of the ingest container.

Exit codes: 0 stopped, 1 records not delivered, 2 invalid input or a topic of another format, 3 a required service is
unreachable.
"""

import argparse
import asyncio
import gc
import signal
import sys
from pathlib import Path

from k2.common import logs, tracing
from k2.common.arguments import Parser
from k2.common.platform import Platform
from k2.common.validation_errors import InvalidSpec
from k2.ingest import app
from k2.ingest.arguments import number, port
from k2.ingest.connection.session import AllSymbolsRefused, AttemptsExhausted, Tuning
from k2.ingest.kafka.publisher import ProducerFatal
from k2.ingest.network.client import check_environment
from k2.schemas.channels import CHANNELS, TRADES, Channel
from k2.schemas.feed.model import ExchangeFeed
from k2.schemas.formats import OtherFormat


def main() -> int:
    """Run one channel of a shard until SIGTERM or SIGINT."""
    arguments = _arguments()
    try:
        feed = ExchangeFeed.from_yaml(arguments.feed.read_bytes())
    except (OSError, InvalidSpec) as error:
        print(f"{arguments.feed}: {getattr(error, 'strerror', None) or error}", file=sys.stderr)
        return 2
    try:
        platform = Platform.read()
        check_environment()
        tracing.configure("ingest")
    except InvalidSpec as error:
        print(error, file=sys.stderr)
        return 2
    shard = f"{arguments.shard}-{arguments.replica}"
    logs.configure(platform.log_format, platform.log_level, feed=feed.name, channel=arguments.channel, shard=shard)
    channel = {channel.name: channel for channel in feed.channels}.get(arguments.channel)
    if channel is None:
        recorded = ", ".join(channel.name for channel in feed.channels)
        print(f"--channel {arguments.channel} is not recorded; spec.channels are {recorded}", file=sys.stderr)
        return 2
    if arguments.shards is None and arguments.shard not in feed.shards():
        print(
            f"--shard {arguments.shard} has no symbols; spec.ingest.shards is {feed.shard_count}",
            file=sys.stderr,
        )
        return 2
    tuning = Tuning(
        arguments.max_attempts,
        arguments.backoff_first,
        arguments.backoff_limit,
        arguments.stale_after,
        arguments.max_age,
    )
    options = app.Options(
        arguments.shard,
        arguments.replica,
        arguments.host,
        arguments.port,
        arguments.grace,
        arguments.feed,
        arguments.egress,
        arguments.shards,
        tuning,
        private=not arguments.public_addresses_only,
    )
    return _run(feed, channel, platform, options)


def _run(feed: ExchangeFeed, channel: Channel, platform: Platform, options: app.Options) -> int:
    try:
        return 1 if asyncio.run(_until_signalled(feed, channel, platform, options)) else 0
    except (app.MixedProtocols, AllSymbolsRefused, OtherFormat, ValueError) as error:
        code, message = 2, " ".join(str(error).split())  # one line, also of a registry's answer
    except (app.ServiceUnreachable, AttemptsExhausted) as error:
        code, message = 3, str(error)
    except ProducerFatal as error:
        code, message = 1, str(error)
    except OSError as error:
        code, message = 2, f"--host {options.host} --port {options.port}: {error.strerror}; choose another"
    print(f"{feed.name}: {message}", file=sys.stderr)
    return code


async def _until_signalled(feed: ExchangeFeed, channel: Channel, platform: Platform, options: app.Options) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    return await app.run(feed, platform, options, stop, channel)


def _arguments() -> argparse.Namespace:
    parser = Parser(
        prog="k2.ingest", description="Ingest one channel of one shard of a feed, from the websocket to Kafka."
    )
    count, seconds = number(int, 0), number(float, 0.001)
    parser.add_argument("--feed", type=Path, required=True, help="ExchangeFeed manifest (YAML)")
    parser.add_argument(
        "--channel",
        choices=[channel.name for channel in CHANNELS],
        default=TRADES.name,
        help="one of spec.channels; default: %(default)s",
    )
    parser.add_argument("--shard", type=count, default=0, help="index of this shard, below spec.ingest.shards")
    parser.add_argument("--replica", type=count, default=0, help="index of this replica, below spec.ingest.redundancy")
    parser.add_argument("--host", default="127.0.0.1", help="address of /metrics, /status, /healthz and /readyz")
    parser.add_argument("--port", type=port, default=9101)
    parser.add_argument("--grace", type=number(float, 0), default=20.0, help="seconds to flush on SIGTERM")
    parser.add_argument(
        "--egress", type=Path, help="JSON file with the number of processes that share this address; may change"
    )
    parser.add_argument(
        "--shards", type=Path, help="JSON file with the number of shards; may change, then it has two for a while"
    )
    parser.add_argument(
        "--public-addresses-only",
        action="store_true",
        help="refuse to connect to an exchange at a private address or at one of this machine",
    )
    parser.add_argument("--max-attempts", type=count, default=0, help="connection attempts; 0: unlimited")
    parser.add_argument("--backoff-first", type=seconds, default=5.0, help="first reconnect delay, seconds")
    parser.add_argument("--backoff-limit", type=seconds, default=60.0, help="longest reconnect delay, seconds")
    parser.add_argument(
        "--stale-after", type=seconds, help="seconds without a frame until a reconnect; default: the exchange's"
    )
    parser.add_argument(
        "--max-age", type=seconds, help="seconds until a connection is rotated; default: the exchange's"
    )
    return parser.parse_args()


if __name__ == "__main__":
    gc.freeze()  # what was imported stays: no full collection, during which nothing is read, looks through it again
    sys.exit(main())
