"""Follow the file that says how many processes share the address of this one."""

import asyncio
from pathlib import Path
from typing import Final

from k2.common import logs
from k2.ingest.network.limits import AddressLimits
from k2.schemas.egress import UnreadableEgress, decode

log = logs.get("egress")

_INTERVAL: Final = 10.0


def read(file: Path) -> int:
    """Return the number of processes. Raises OSError or `UnreadableEgress`."""
    return decode(file.read_bytes()).processes


async def follow(file: Path, limits: AddressLimits) -> None:
    """Divide the limits as the file says, now and whenever it changes. An unreadable file changes nothing."""
    reported = ""
    while True:
        try:
            processes = await asyncio.to_thread(read, file)
        except (OSError, UnreadableEgress) as error:
            if str(error) != reported:
                log.warning("egress file not read", file=str(file), processes=limits.processes, error=str(error))
            reported = str(error)
        else:
            reported = ""
            if processes != limits.processes:
                log.info("limits divided", processes=processes, before=limits.processes)
                limits.divide(processes)
        await asyncio.sleep(_INTERVAL)
