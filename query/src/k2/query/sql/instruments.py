"""Query the instruments of exchanges as they were valid at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from k2.query.errors import Unavailable
from k2.query.times import to_rfc3339, to_utc
from k2.schemas.tables import INSTRUMENTS, INSTRUMENTS_TABLE

if TYPE_CHECKING:
    from datetime import datetime

    from pyarrow import Table

    from k2.query.engine import Engine
    from k2.query.sql.record_sql import RecordFilter

COLUMNS: Final = tuple(name for name in INSTRUMENTS_TABLE.column_names if name != "definition")  # some KB a row


def valid_at(engine: Engine, moment: datetime, record_filter: RecordFilter) -> Table:
    """Return the version of each instrument that is valid at `moment`, without its definition as received.

    Delisted ones are among them, with their status. Raises `Unavailable` if there is no table yet, and `BadQuery` for a
    time without a zone.
    """
    from pyiceberg.expressions import AlwaysTrue, EqualTo

    if INSTRUMENTS not in engine.names():
        raise Unavailable(f"there is no table {INSTRUMENTS} yet; `k2 up` creates it")
    exchange = record_filter.exchange
    statement = f"""SELECT {", ".join(COLUMNS)} FROM {INSTRUMENTS}
                    WHERE valid_from <= $moment::TIMESTAMPTZ AND (valid_to > $moment::TIMESTAMPTZ OR valid_to IS NULL)
                        AND {record_filter.condition("valid_from")}
                    ORDER BY exchange, raw_symbol"""  # noqa: S608 - names of our own
    partition = EqualTo(term="exchange", value=exchange) if exchange else AlwaysTrue()
    parameters = record_filter.parameters | {"moment": to_rfc3339(to_utc(moment, "at"))}
    return engine.execute(statement, {INSTRUMENTS: partition}, **parameters)
