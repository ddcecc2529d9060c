"""What the adapters of channels without ids and history have in common: each connection stands for itself."""

from collections.abc import Sequence

from k2.ingest.exchanges.base import Event, Gap, Newest, Page, Request
from k2.schemas.exchanges.spec import Pair


class ConnectionAdapter:
    """Parses the frames of one connection; nothing is asked for over REST about what it lost."""

    has_sequence = False
    record_ids = ""

    def set_pairs(self, pairs: Sequence[Pair]) -> None:
        """Replace the symbols whose frames are parsed."""
        self._pairs = pairs
        self._by_name = {pair.raw_symbol: pair for pair in pairs}

    def snapshot_request(self, pair: Pair) -> Request | None:
        """Return None: the stream itself begins with the state, or no record over REST compares with its own."""
        return None

    def parse_snapshot(self, pair: Pair, body: bytes, received: int) -> Sequence[Event]:
        """Fail: no snapshot is requested."""
        raise AssertionError(pair)

    def parse_newest(self, body: bytes) -> Newest:
        """Fail: no snapshot is requested."""
        raise AssertionError(body)

    def history_request(self, gap: Gap) -> Request:
        """Fail: nothing that is missing is requested."""
        raise AssertionError(gap)

    def parse_page(self, request: Request, body: bytes, gap: Gap, received: int) -> Page:
        """Fail: nothing that is missing is requested."""
        raise AssertionError(gap)
