"""Compare this machine's clock with those of exchanges, over REST."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from k2.cli.embedded import state, status
from k2.cli.embedded.layout import Layout
from k2.common.validation_errors import InvalidSpec
from k2.ingest.backfill.rest import RestClient
from k2.ingest.exchanges import adapter, clock, rest_answers
from k2.ingest.network.client import HttpClient, open_client
from k2.ingest.network.clock import FAILURES, ClockOffset, measure
from k2.ingest.network.limits import AddressLimits
from k2.schemas.channels import TRADES
from k2.schemas.exchanges.registry import EXCHANGES

_TIMEOUT: Final = 5.0  # seconds


@dataclass(frozen=True, slots=True)
class Comparison:
    """The offset from each exchange that answered, by name, and why the last of the others did not."""

    offsets: Mapping[str, ClockOffset]
    failure: str


def endpoints(layout: Layout) -> dict[str, str]:
    """Return the exchanges of the last `k2 up` and where their REST API is; empty: the exchange's own."""
    try:
        feeds = status.feeds(layout, state.load(layout.state))
    except (OSError, InvalidSpec, state.UnreadableState):
        feeds = []
    return {feed.spec.exchange: feed.spec.ingest.rest_endpoint for feed in feeds} or dict.fromkeys(EXCHANGES, "")


def compare(endpoints: Mapping[str, str]) -> Comparison:
    """Ask all exchanges at once. Raises `InvalidSpec` if the environment names an unusable proxy or certificate."""
    return asyncio.run(_compare(endpoints))


async def _compare(endpoints: Mapping[str, str]) -> Comparison:
    async with open_client() as http:
        answers = await asyncio.gather(*(_offset(http, *each) for each in endpoints.items()))
    offsets = {name: answer for name, answer in zip(endpoints, answers, strict=True) if isinstance(answer, ClockOffset)}
    return Comparison(offsets, next((answer for answer in answers if isinstance(answer, str)), ""))


async def _offset(http: HttpClient, exchange: str, endpoint: str) -> ClockOffset | str:
    protocol = adapter(exchange, TRADES, ())
    limits, answers = AddressLimits(protocol.rest_budget, protocol.limits), rest_answers(exchange)
    try:
        async with asyncio.timeout(_TIMEOUT):
            return await measure(clock(exchange), RestClient(http, endpoint or protocol.rest_url, limits, answers))
    except (*FAILURES, TimeoutError) as error:
        return str(error) or f"{exchange} did not answer in {_TIMEOUT:.0f} s"
