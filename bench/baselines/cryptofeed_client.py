"""cryptofeed from a local websocket to Kafka, with its own interpreter and as its documentation does it.

usage: cryptofeed_client.py WEBSOCKET_BASE BOOTSTRAP TOPIC_KEY [TIMES_FILE]

With TIMES_FILE it writes the time of each acknowledgement when it stops. Nothing of K2 is imported here.
"""

import asyncio
import json
import sys
import time

from cryptofeed import FeedHandler, connection
from cryptofeed.backends.kafka import TradeKafka
from cryptofeed.defines import BINANCE, TRADES
from cryptofeed.exchanges import Binance
from cryptofeed.symbols import Symbols

NATIVE = {"BTC-USDT": "BTCUSDT", "ETH-USDT": "ETHUSDT"}


class TimedKafka(TradeKafka):
    """Record the time of each acknowledgement."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.times = []

    async def _connect(self):
        await super()._connect()
        send = self.producer.send

        async def timed(topic, value, *rest):
            future = await send(topic, value, *rest)
            future.add_done_callback(lambda _: self.times.append((time.time_ns(), value)))
            return future

        self.producer.send = timed


def main(base, bootstrap, key, times=None):
    """Run until SIGTERM."""
    opened = connection.connect
    # It refuses addresses without TLS, which the benchmark's server does not have; K2 uses the same server.
    connection.connect = lambda address, **options: opened(address.replace("wss://", "ws://", 1), **options)
    Binance.websocket_endpoints = [connection.WebsocketEndpoint(base.replace("ws://", "wss://", 1))]
    Symbols.set(BINANCE, dict(NATIVE), {"instrument_type": dict.fromkeys(NATIVE, "spot")})
    kind = TimedKafka if times else TradeKafka
    callback = kind(bootstrap_servers=bootstrap, acks="all", key=key)
    handler = FeedHandler(config={"uvloop": True, "log": {"disabled": True}})
    asyncio.set_event_loop(asyncio.new_event_loop())
    handler.add_feed(Binance(symbols=list(NATIVE), channels=[TRADES], callbacks={TRADES: callback}))
    handler.run()
    if times:
        rows = [(NATIVE[record["symbol"]], int(record["id"]), at) for at, value in callback.times
                for record in (json.loads(value),)]  # fmt: skip
        with open(times, "w") as file:  # noqa: PTH123 - no imports beyond cryptofeed's
            json.dump(rows, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
