"""`k2 instruments`: what an exchange lists, and what K2 would record of it; or what it listed at a time."""

import asyncio
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from k2.cli import output
from k2.cli.commands.query import Data, open_engine
from k2.cli.embedded.layout import DEFAULT
from k2.cli.exits import BAD_INPUT, UNREACHABLE, refuse
from k2.cli.output import Format
from k2.query import times
from k2.query.errors import BadQuery
from k2.query.sql.record_sql import RecordFilter
from k2.schemas.channels import TRADES
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.values import PRECISION, SCALE, from_micros

if TYPE_CHECKING:
    import pyarrow as pa

    from k2.schemas.records.instrument import Instrument, InstrumentList

_SCHEMES: Final = ("http://", "https://")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(instruments)


def instruments(
    exchange: Annotated[str, typer.Argument(help=f"One of {', '.join(EXCHANGES)}.")],
    match: Annotated[
        str, typer.Option(help="Only symbols that match, in either spelling; * stands for any characters: *USDT.")
    ] = "*",
    at: Annotated[
        str | None,
        typer.Option(
            "--at", metavar="TIME", help="Instead, print what K2 recorded as valid at this time; needs --data."
        ),
    ] = None,
    endpoint: Annotated[str, typer.Option(help="REST base URL; default: the exchange's own.")] = "",
    form: Annotated[Format, typer.Option("--format", help="json is JSON lines; parquet and arrow are bytes.")] = (
        Format.TABLE
    ),
    to: Annotated[Path | None, typer.Option("--output", help="Write to this file instead of standard output.")] = None,
    data: Data = DEFAULT,
) -> None:
    """Print the instruments that an exchange lists now, or at a time; those that K2 cannot record have a reason."""
    if exchange not in EXCHANGES:
        refuse(f"{exchange!r} is no exchange that K2 knows; use one of {', '.join(EXCHANGES)}")
    if endpoint and not endpoint.startswith(_SCHEMES):
        refuse(f"--endpoint {endpoint} is no URL that begins with {' or '.join(_SCHEMES)}")
    if at is not None:
        if endpoint:
            refuse("--at reads what K2 recorded, and --endpoint asks an exchange now; leave one out")
        _print_valid_at(data, exchange, at, match, form, to)
        return
    listed = _fetch(exchange, endpoint.rstrip("/"))
    try:
        output.write(_table(exchange, listed, match).to_reader(), form, to)
    except BadQuery as error:
        refuse(str(error), code=BAD_INPUT)


def _print_valid_at(data: Path, exchange: str, at: str, match: str, form: Format, to: Path | None) -> None:
    with open_engine(data) as engine:
        import pyarrow as pa

        from k2.query.sql.instruments import valid_at

        table = valid_at(engine, times.parse(at), RecordFilter.of(None, exchange, None, None))
        names = zip(table["raw_symbol"].to_pylist(), table["symbol"].to_pylist(), strict=True)
        selected = pa.array([_matches(match, *each) for each in names], pa.bool_())
        output.write(table.filter(selected).to_reader(), form, to)


def _fetch(exchange: str, endpoint: str) -> "InstrumentList":
    from k2.common.validation_errors import InvalidSpec
    from k2.ingest.backfill.rest import RestClient, RestUnreachable
    from k2.ingest.exchanges import adapter, rest_answers
    from k2.ingest.exchanges.base import MalformedFrame, RestRefused
    from k2.ingest.instruments.reader import read_instruments
    from k2.ingest.network.client import open_client
    from k2.ingest.network.limits import AddressLimits

    protocol = adapter(exchange, TRADES, ())

    async def read() -> "InstrumentList":
        async with open_client() as http:
            limits, answers = AddressLimits(protocol.rest_budget, protocol.limits), rest_answers(exchange)
            rest = RestClient(http, endpoint or protocol.rest_url, limits, answers)
            return await read_instruments(exchange, rest.fetch_once)

    try:
        return asyncio.run(read())
    except InvalidSpec as error:
        refuse(str(error))
    except (RestUnreachable, RestRefused, MalformedFrame) as error:
        refuse(f"the instrument list of {exchange} cannot be read: {error}", code=UNREACHABLE)


def _table(exchange: str, listed: "InstrumentList", match: str) -> "pa.Table":
    import pyarrow as pa

    rows = [_row(each) for name, each in listed.instruments.items() if _matches(match, name, each.symbol)]
    rows += [
        {"exchange": EXCHANGES[exchange].label, "raw_symbol": name, "rejected": reason}
        for name, reason in listed.rejected.items()
        if _matches(match, name)
    ]
    amount = pa.decimal128(PRECISION, SCALE)
    columns = {
        **dict.fromkeys(("exchange", "raw_symbol", "symbol", "base_asset", "quote_currency", "status"), pa.string()),
        **dict.fromkeys(("tick_size", "lot_size", "min_notional"), amount),
        "listed_at": pa.timestamp("us", "UTC"),
        "rejected": pa.string(),
    }
    return pa.Table.from_pylist(sorted(rows, key=lambda row: row["raw_symbol"]), pa.schema(columns.items()))


def _row(each: "Instrument") -> dict[str, Any]:
    return {
        "exchange": each.exchange,
        "raw_symbol": each.raw_symbol,
        "symbol": each.symbol,
        "base_asset": each.base_asset,
        "quote_currency": each.quote_currency,
        "status": each.status.value,
        "tick_size": each.tick_size,
        "lot_size": each.lot_size,
        "min_notional": each.min_notional,
        "listed_at": from_micros(each.listed_at) if each.listed_at is not None else None,
    }


def _matches(match: str, *names: str) -> bool:
    return any(fnmatchcase(name.upper(), match.upper()) for name in names)
