"""Exchange adapters, one folder per exchange in `k2.schemas.exchanges`, with a fixed set of files.

`spec` (declared data), `messages` (wire formats), `parse` (frames to trades), `rest` (requests and responses) and
`venue` (the simulated exchange). The folder's `PROTOCOLS` are its adapters by protocol name, its `venue.VENUE` is the
simulated side. Venues are imported on use only, so that ingest does not load the simulator.
"""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING
from urllib.parse import urldefrag

from k2.ingest.exchanges.base import Exchange
from k2.schemas.exchanges.spec import Pair

if TYPE_CHECKING:
    from k2.ingest.exchanges.base_venue import Venue


def adapter(exchange: str, pairs: Sequence[Pair], endpoint: str = "") -> Exchange:
    """Return an exchange's adapter. The fragment of `endpoint` selects a protocol: `wss://ws.kraken.com#v1`.

    Raises ValueError if the exchange has no such protocol.
    """
    protocols: Mapping[str, type[Exchange]] = import_module(f"{__name__}.{exchange}").PROTOCOLS
    fragment = urldefrag(endpoint).fragment
    if fragment not in protocols:
        allowed = ", ".join(sorted(f"{exchange}#{name}" for name in protocols if name)) or "none"
        raise ValueError(f"{exchange} has no protocol {fragment!r}; endpoints may end in: {allowed}")
    return protocols[fragment](pairs)


def venue(exchange: str) -> "type[Venue]":
    """Return the simulated side of an exchange."""
    simulated: type[Venue] = import_module(f"{__name__}.{exchange}.venue").VENUE
    return simulated
