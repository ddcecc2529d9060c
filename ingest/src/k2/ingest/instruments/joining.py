"""Symbols that a running process takes up: subscribed first, and continued from what Kafka has by then.

Another process may carry a symbol until this one does. Whatever the exchange sent before this process was subscribed is
that one's; what it sends afterwards comes here. So the records of a symbol that is taken up wait until it is subscribed
and Kafka's newest record of it is read again: it follows without a gap, or the gap is real.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from k2.ingest.connection.session import Session
from k2.ingest.pipeline import Pipeline
from k2.ingest.telemetry.stats import Stats
from k2.schemas.exchanges.spec import Pair
from k2.schemas.states import SymbolState

# Reads where Kafka is for some pairs, and continues from there. It is given the ids of the records that wait, in order.
Resume = Callable[[Sequence[Pair], Mapping[str, Sequence[str]]], Awaitable[None]]

_POLL: Final = 0.5
_LONGEST: Final = 30.0  # seconds to wait for acknowledgements; what is subscribed later may begin with a gap
_DELIVERY: Final = 2.0  # seconds in which another process has delivered what it received before the subscription
_SUBSCRIBED: Final = frozenset(
    {SymbolState.ACKNOWLEDGED, SymbolState.FLOWING, SymbolState.QUIET, SymbolState.SILENT, SymbolState.REFUSED}
)


class Joining:
    """Changes the symbols of a session."""

    def __init__(self, session: Session, pipeline: Pipeline, stats: Stats, resume: Resume) -> None:
        self._session, self._pipeline, self._stats, self._resume = session, pipeline, stats, resume

    async def set_symbols(self, pairs: Sequence[Pair], added: Sequence[Pair]) -> None:
        """Carry some pairs, of which some are added, and return when they are taken up.

        A process that ends meanwhile drops what waits: its successor resumes before it.
        """
        symbols = [pair.symbol for pair in added]
        self._pipeline.hold(symbols)
        try:
            self._session.set_symbols(pairs)
            if added:
                await self._subscribed(symbols)
                await asyncio.sleep(_DELIVERY)
                await self._resume(added, self._pipeline.held_ids(symbols))
        except BaseException:
            self._pipeline.drop_held(symbols)
            raise
        self._pipeline.release(symbols)
        await self._pipeline.settle()

    async def _subscribed(self, symbols: Sequence[str]) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _LONGEST
        while loop.time() < deadline:
            await asyncio.sleep(_POLL)
            states = self._stats.symbol_states
            if all(symbol in states and states[symbol][0] in _SUBSCRIBED for symbol in symbols):
                return
