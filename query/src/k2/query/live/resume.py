"""Where a live stream was when an event was sent: what the client gives back to go on from there.

It is a list of Kafka positions in which anybody may write anything: it is looked at before it is used.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Final

import msgspec

from k2.query.errors import BadQuery
from k2.query.kafka.kafka_reader import Place
from k2.schemas import topics

LONGEST: Final = 16_384
_STANDARD: Final = topics.trades("")
_SHORT: Final = "~"  # no topic's name begins with it
_VERSION: Final = 1
_BROKEN: Final = "the id to resume from is none that this stream gave; leave it out to begin with what comes now"

_Number = Annotated[int, msgspec.Meta(ge=0, lt=2**62)]
_Told = tuple[int, dict[str, dict[_Number, _Number]]]


@dataclass(frozen=True, slots=True)
class Cursor:
    """The next offset of each partition; of one that is not named, the first."""

    offsets: Mapping[Place, int] = field(default_factory=dict)

    def text(self) -> str:
        """As clients are given it."""
        found: dict[str, dict[int, int]] = {}
        for (topic, partition), offset in self.offsets.items():
            if not offset:
                continue
            name = _SHORT + topic.removeprefix(_STANDARD) if topic.startswith(_STANDARD) else topic
            found.setdefault(name, {})[partition] = offset
        packed = msgspec.msgpack.encode((_VERSION, found))
        return base64.urlsafe_b64encode(packed).decode().rstrip("=")

    @classmethod
    def read(cls, text: str) -> "Cursor":
        """What a client gave back. Raises `BadQuery` for what is none of ours."""
        if len(text) > LONGEST:
            raise BadQuery(_BROKEN)
        try:
            packed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            version, found = msgspec.msgpack.decode(packed, type=_Told)
        except (binascii.Error, msgspec.DecodeError, ValueError, RecursionError) as error:
            raise BadQuery(_BROKEN) from error
        if version != _VERSION:
            raise BadQuery(_BROKEN)
        offsets = {
            (_STANDARD + name[1:] if name.startswith(_SHORT) else name, partition): offset
            for name, partitions in found.items()
            for partition, offset in partitions.items()
        }
        return cls(offsets)

    def refuse_unless(self, ends: Mapping[Place, int]) -> None:
        """Raises `BadQuery` if it names a place that there is not, or one that has not come to be yet."""
        if any(offset > ends.get(place, -1) for place, offset in self.offsets.items()):
            raise BadQuery(_BROKEN)
