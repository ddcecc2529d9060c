"""What an audit without findings leaves for the next one: what it has judged. Independent of Spark."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final

from k2.jobs.audit.incremental.file_sets import FileSet

_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Anchor:
    """The files of each table that were judged, and from when on each channel has more to judge.

    `floors` are the first hours (UTC microseconds), by exchange and channel, that were open or not read by all layers.
    """

    tables: Mapping[str, FileSet] = field(default_factory=dict)
    floors: Mapping[str, int] = field(default_factory=dict)

    def text(self) -> str:
        """Return the anchor as JSON."""
        tables = {
            name: {"sequence": one.sequence, "day": one.day.isoformat(), "files": dict(one.groups)}
            for name, one in self.tables.items()
        }
        return json.dumps({"version": _VERSION, "tables": tables, "floors": dict(self.floors)}, separators=(",", ":"))

    @classmethod
    def parse(cls, text: str | None) -> "Anchor | None":
        """Parse what `text` returned; None if there is nothing, or something else: then everything is judged."""
        try:
            document: Any = json.loads(text or "null")
            if document is None or document["version"] != _VERSION:
                return None
            tables = {
                name: FileSet(one["sequence"], date.fromisoformat(one["day"]), one["files"])
                for name, one in document["tables"].items()
            }
            return cls(tables, {str(name): int(floor) for name, floor in document["floors"].items()})
        except (ValueError, TypeError, KeyError, AttributeError):
            return None

    def floor(self, origin: str, touched: Mapping[str, int | None], tables: Iterable[str]) -> int:
        """Return from when on (UTC microseconds) a channel is to be judged; 0: all of it.

        `touched` are the first times of what is new or otherwise by table, `tables` those that the channel is made of.
        """
        if origin not in self.floors:
            return 0
        times = (0 if name not in self.tables else touched.get(name) for name in tables)
        return min([self.floors[origin], *(time for time in times if time is not None)])
