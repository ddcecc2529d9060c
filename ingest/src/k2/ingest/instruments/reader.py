"""Read an exchange's instrument list over REST."""

from collections.abc import Awaitable, Callable

from k2.common import logs
from k2.ingest.exchanges import instrument_source
from k2.ingest.exchanges.base import Request, RestRefused
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.records.instrument import InstrumentList, Listed, Rejected, instrument_list

log = logs.get("instruments")

Fetch = Callable[[Request, Callable[[bytes], list[Listed | Rejected]]], Awaitable[list[Listed | Rejected]]]


async def read_instruments(exchange: str, fetch: Fetch) -> InstrumentList:
    """Return the list of an exchange. `fetch` is `RestClient.fetch` or `fetch_once`; raises what it raises."""
    source = instrument_source(exchange)
    entries: list[Listed | Rejected] = []
    for request in source.requests:
        try:
            entries += await fetch(request, source.read)
        except RestRefused as error:
            if error.reason is None or request is source.requests[0]:
                raise
            # A part of the list that the exchange does not offer everywhere.
            log.info("part of the instrument list refused", path=request.path, error=str(error))
    return instrument_list(EXCHANGES[exchange], entries)
