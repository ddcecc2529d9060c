"""Exchange adapters, one folder per exchange in `k2.schemas.exchanges`, with a fixed set of files.

`spec` (declared data), `messages` (wire formats), `control` (subscriptions and their answers), `parse` (frames to
records), `rest` (requests and responses), `answers` (which REST errors are final), `instruments` (the list of
instruments), `clock` (its time) and `venue` (the simulated exchange).
The folder's `CHANNELS` are its adapters
by channel and protocol name, its `venue.VENUE` is the simulated side. Venues are imported on use only, so that ingest
does not load the simulator.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING
from urllib.parse import urldefrag

from k2.ingest.exchanges.answers import RestAnswers
from k2.ingest.exchanges.base import Adapter
from k2.ingest.exchanges.clock_source import ClockSource
from k2.ingest.exchanges.instrument_rows import InstrumentSource
from k2.schemas.channels import Channel
from k2.schemas.exchanges.spec import Pair

if TYPE_CHECKING:
    from k2.ingest.exchanges.base_venue import Venue


def adapter(
    exchange: str, channel: Channel, pairs: Sequence[Pair], endpoint: str = "", **options: int
) -> Adapter:  # fmt: skip
    """Return an exchange's adapter of a channel, set as the feed says of it (`ExchangeFeed.options`).

    The fragment of `endpoint` selects a protocol: `wss://ws.kraken.com#v1`. Raises ValueError if the exchange has no
    such protocol.
    """
    protocols: Mapping[str, Callable[..., Adapter]] = import_module(f"{__name__}.{exchange}").CHANNELS[channel.name]
    fragment = urldefrag(endpoint).fragment
    if fragment not in protocols:
        allowed = ", ".join(sorted(f"{exchange}#{name}" for name in protocols if name)) or "none"
        raise ValueError(f"{exchange} has no protocol {fragment!r}; endpoints may end in: {allowed}")
    return protocols[fragment](pairs, **options)


def rest_answers(exchange: str) -> RestAnswers:
    """Return an exchange's table of REST errors."""
    table: RestAnswers = import_module(f"{__name__}.{exchange}.answers").ANSWERS
    return table


def venue(exchange: str) -> "type[Venue]":
    """Return the simulated side of an exchange."""
    simulated: type[Venue] = import_module(f"{__name__}.{exchange}.venue").VENUE
    return simulated


def clock(exchange: str) -> ClockSource:
    """Return how an exchange tells its time."""
    source: ClockSource = import_module(f"{__name__}.{exchange}.clock").CLOCK
    return source


def instrument_source(exchange: str) -> InstrumentSource:
    """Return how an exchange lists its instruments."""
    source: InstrumentSource = import_module(f"{__name__}.{exchange}.instruments").SOURCE
    return source
