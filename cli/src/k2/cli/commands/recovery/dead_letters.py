"""`k2 dead-letters`: lists, shows and judges again what was not a valid record."""

import json
import re
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from k2.cli import output
from k2.cli.commands.query import Data, End, Exchange, Form, Output, Start, open_engine
from k2.cli.commands.recovery.redrive import redrive
from k2.cli.embedded import state
from k2.cli.embedded.layout import DEFAULT, Layout
from k2.cli.exits import refuse, say
from k2.cli.output import Format
from k2.query import times

if TYPE_CHECKING:
    from pathlib import Path

    from pyarrow import Table

    from k2.query.engine import Engine
    from k2.query.sql.record_sql import RecordFilter

_LIMIT: Final = 100
_COORDINATES: Final = re.compile(r"([A-Za-z0-9._#-]{1,280})/([0-9]{1,9})/([0-9]{1,18})")

dead_letters = typer.Typer(help="List, show and judge again what was not a valid record.", no_args_is_help=True)


class Stage(StrEnum):
    """Where a dead letter was rejected."""

    SILVER = "silver"  # a record in Kafka
    INGEST = "ingest"  # a frame of an exchange


Stages = Annotated[
    Stage | None,
    typer.Option(help="Only records that Silver rejected, or only frames that the ingest rejected. Default: both."),
]
Category = Annotated[str | None, typer.Option(help="Only this category, such as UNDECODABLE.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(dead_letters, name="dead-letters")


@dead_letters.command(name="list")
def list_(
    exchange: Exchange = None,
    category: Category = None,
    stage: Stages = None,
    start: Start = None,
    end: End = None,
    limit: Annotated[int, typer.Option(help="Maximum number of rows.", min=1, max=100_000)] = _LIMIT,
    form: Form = Format.TABLE,
    to: Output = None,
    data: Data = DEFAULT,
) -> None:
    """Print dead letters, the newest first. Frames of the ingest are in Kafka: the platform must run for them."""
    stages = _readable(data, stage)
    with open_engine(data, hybrid=Stage.INGEST in stages) as engine:
        from k2.query.sql.record_sql import RecordFilter

        record_filter = RecordFilter.of(
            None, exchange, times.parse(start) if start else None, times.parse(end) if end else None
        )
        rows = _newest(engine, stages, record_filter, category, limit)
        output.write(rows.to_reader(), form, to)


@dead_letters.command()
def show(
    coordinates: Annotated[str, typer.Argument(metavar="TOPIC/PARTITION/OFFSET", help="As `list` prints them.")],
    data: Data = DEFAULT,
) -> None:
    """Print one dead letter as JSON: its bytes as base64, and as text if they are UTF-8."""
    match = _COORDINATES.fullmatch(coordinates)
    if match is None:
        refuse(f"{coordinates!r} is no dead letter; write TOPIC/PARTITION/OFFSET, as k2 dead-letters list prints them")
    topic, partition, offset = match[1], int(match[2]), int(match[3])
    from k2.query.kafka.raw_frames import is_raw_frame_topic

    in_kafka = is_raw_frame_topic(topic)
    with open_engine(data, hybrid=in_kafka) as engine:
        from k2.query.execution.json_values import to_json_value
        from k2.query.sql import audit_tables

        row = (
            engine.raw_frames.get(topic, partition, offset)
            if in_kafka
            else audit_tables.dead_letter(engine, topic, partition, offset)
        )
        if row is None:
            refuse(f"there is no dead letter {coordinates}; k2 dead-letters list names those that there are")
        typer.echo(json.dumps(to_json_value(row | {"text": _text(row["value"] or b"")}), indent=2, ensure_ascii=False))


def _readable(data: "Path", stage: Stage | None) -> tuple[Stage, ...]:
    """Return the stages to read: without a choice, those of the ingest only if the platform runs."""
    if stage is not None:
        return (stage,)
    try:
        is_running = state.load(Layout.at(data).state).running
    except state.UnreadableState as error:
        refuse(str(error))
    if not is_running:
        say("the platform is not running: frames that the ingest rejected are in its Kafka, and not listed")
    return (Stage.SILVER, Stage.INGEST) if is_running else (Stage.SILVER,)


def _newest(
    engine: "Engine", stages: tuple[Stage, ...], record_filter: "RecordFilter", category: str | None, limit: int
) -> "Table":
    import pyarrow as pa

    from k2.query.sql import audit_tables
    from k2.schemas.channels import CHANNELS

    tables: list[Any] = []
    if Stage.SILVER in stages:
        tables += [audit_tables.dead_letters(engine, channel, record_filter, category, limit) for channel in CHANNELS]
    if Stage.INGEST in stages:
        tables.append(engine.raw_frames.newest(record_filter, category, limit))
    together = pa.concat_tables(tables, promote_options="permissive")
    order = [("dead_lettered_at", "descending"), ("topic", "ascending"), ("partition", "ascending")]
    return together.sort_by([*order, ("offset", "descending")]).slice(0, limit)


def _text(value: bytes) -> str | None:
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return text if "\0" not in text else None


dead_letters.command()(redrive)
