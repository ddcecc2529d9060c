"""Recorded frames of Binance, as the ingest stores them: the books read from the records are the exchange's."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from k2.ingest.exchanges import adapter
from k2.ingest.exchanges.base import Event, SequencedRecord
from k2.ingest.simulator.listings import pair_of
from k2.query.book import rows
from k2.query.book.reconstruction import Book, books_at
from k2.query.kafka import record_buffer
from k2.query.kafka.validation import Validator
from k2.schemas.channels import BOOK, QUOTES, Channel
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.states import Verdict
from tests.recorded_books import COUNTS, Recording, recording

_INSTANTS = 500  # of each symbol
_SCHEMA_ID = 7
_UNIT = Decimal(10) ** -12


@pytest.mark.parametrize("symbol", COUNTS)
def test_books_at_random_instants_are_the_recorded_ones_and_agree_with_the_recorded_quotes(
    captures: Path, symbol: str
) -> None:
    recorded = recording(captures, symbol)
    messages = _decoded(BOOK, values(BOOK, recorded))
    messages = messages.append_column(rows.TIME, record_buffer.times(BOOK, messages))
    check(recorded, messages, _decoded(QUOTES, values(QUOTES, recorded)))


def check(recorded: Recording, messages: pa.Table, quotes: pa.Table) -> None:
    """Compare the books and quotes of stored rows with those of the raw frames. Messages have a column `time` too."""
    instants = recorded.instants(_INSTANTS, seed=1)
    for book, (bids, asks) in zip(_books(messages, instants), recorded.books(instants), strict=True):
        assert (_side(book.bids), _side(book.asks)) == (sorted(bids.items(), reverse=True), sorted(asks.items()))
        assert book.verdict is Verdict.VERIFIED

    expected = recorded.quotes_of_changes()
    assert len(expected) == COUNTS[recorded.symbol]
    stored = {quote["sequence"]: quote for quote in quotes.to_pylist()}
    for number, book in zip(expected, _books(messages, [time for time, _ in expected.values()]), strict=True):
        best = *_side(book.bids[:1])[0], *_side(book.asks[:1])[0]
        assert (book.last_id, best) == (number, expected[number][1])
        assert _best(stored[number]) == best


def values(channel: Channel, recorded: Recording, schema_id: int = _SCHEMA_ID) -> list[tuple[int, bytes]]:
    """Return what the ingest writes to Kafka of a recording: times of arrival in UTC microseconds, and values."""
    pair = pair_of(EXCHANGES["binance"], recorded.symbol)
    reader: Any = adapter("binance", channel, [pair])
    frames = sorted([*recorded.changes, *recorded.states]) if channel is BOOK else recorded.quotes
    encoder, encoded = channel.encoder(schema_id), []
    for arrived, frame in frames:
        is_state = frame.startswith(b'{"lastUpdateId"')
        events: list[Event] = reader.parse_state(pair, frame, arrived) if is_state else reader.parse(frame, arrived)
        for event in events:
            assert isinstance(event, SequencedRecord), event
            encoded.append((arrived, encoder.encode(event.record)))
    return encoded


def _decoded(channel: Channel, encoded: list[tuple[int, bytes]]) -> pa.Table:
    """Return values of Kafka as the columns of Gold."""
    validator = Validator(channel, {_SCHEMA_ID: channel.schema}, "BINANCE")
    decoded = [validator.validate(value, None, arrived) for arrived, value in encoded]
    assert all(isinstance(row, tuple) for row in decoded), "a record is a dead letter"
    return record_buffer.table(channel, decoded)


def _books(messages: pa.Table, instants: list[Any]) -> list[Book]:
    books = list(books_at(rows.messages(messages), instants))
    assert None not in books
    return books  # type: ignore[return-value]


def _side(levels: Any) -> list[tuple[Decimal, Decimal]]:
    return [(price * _UNIT, quantity * _UNIT) for price, quantity in levels]


def _best(quote: dict[str, Any]) -> tuple[Decimal, ...]:
    return tuple(
        Decimal(quote[f"{side}_{value}"]).scaleb(quote[f"{value}_exponent"])
        for side in ("bid", "ask")
        for value in ("price", "quantity")
    )
