"""Read an exchange's instrument list over REST."""

from collections.abc import Awaitable, Callable

from k2.ingest.exchanges import instrument_source
from k2.ingest.exchanges.base import Request
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.records.instrument import InstrumentList, Listed, Rejected, instrument_list

Fetch = Callable[[Request, Callable[[bytes], list[Listed | Rejected]]], Awaitable[list[Listed | Rejected]]]


async def read_instruments(exchange: str, fetch: Fetch) -> InstrumentList:
    """Return the list of an exchange. `fetch` is `RestClient.fetch` or `fetch_once`; raises what it raises."""
    source = instrument_source(exchange)
    entries: list[Listed | Rejected] = []
    for request in source.requests:
        entries += await fetch(request, source.read)
    return instrument_list(EXCHANGES[exchange], entries)
