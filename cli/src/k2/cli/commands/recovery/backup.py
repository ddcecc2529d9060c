"""`k2 backup` and `k2 restore`: copies of an embedded platform's folder that are of one moment."""

from pathlib import Path
from typing import Annotated

import typer

from k2.cli.commands.options import Data
from k2.cli.embedded.layout import DEFAULT, Layout
from k2.cli.exits import FAILED, UNREACHABLE, refuse, say


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(name="backup")(backup)
    app.command(name="restore")(restore)


def backup(
    target: Annotated[Path, typer.Argument(help="the folder of the backup, which must not exist", file_okay=False)],
    data: Data = DEFAULT,
) -> None:
    """Back up the folder of a stopped platform. Exit 2 if it runs, or if its parts are of different moments."""
    from k2.cli.backup import backup as backups
    from k2.cli.embedded.integrity import Unusable
    from k2.cli.embedded.state import UnreadableState

    layout = Layout.at(data)
    if layout.foreign_tables.exists():
        refuse(
            f"the tables of {layout.root} are in a REST catalog and not in the folder: a copy of both would not be of "
            "one moment; back up the catalog and its bucket with their own means while no platform runs"
        )
    if not layout.has_tables:
        refuse(f"no tables in {layout.root}; start a platform with k2 up, or choose another --data", code=UNREACHABLE)
    try:
        manifest = backups.create(layout, target.expanduser().absolute())
    except (backups.Refused, Unusable, UnreadableState) as error:
        refuse(*str(error).splitlines())
    except OSError as error:
        refuse(f"the backup was not made: {error}", code=FAILED)
    say(f"backed up {layout.root}: {manifest.size / 1e6:.1f} MB in {target}")


def restore(
    source: Annotated[Path, typer.Argument(help="the folder of a backup", file_okay=False)],
    data: Data = DEFAULT,
) -> None:
    """Restore a backup into a new or empty folder, also at another path. Exit 2 if its parts do not belong together."""
    from k2.cli.backup import backup as backups
    from k2.cli.backup.relocation import NotRelocatable
    from k2.cli.embedded.state import UnreadableState

    layout = Layout.at(data)
    try:
        manifest = backups.restore(source.expanduser().absolute(), layout)
    except (backups.Refused, NotRelocatable, UnreadableState) as error:
        refuse(*str(error).splitlines())
    except OSError as error:
        refuse(f"nothing was restored: {error}", code=FAILED)
    say(f"restored the backup of {manifest.made_at} into {layout.root}; go on with k2 up, and check with k2 audit")
