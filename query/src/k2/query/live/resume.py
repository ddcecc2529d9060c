"""Encode and decode the position of a live stream, which clients send back to resume.

A cursor is a list of Kafka offsets that a client can change at will, so it is validated before use.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from k2.query.errors import BadQuery
from k2.schemas import topics

if TYPE_CHECKING:
    from collections.abc import Mapping

    from k2.query.kafka.records import TopicPartition
    from k2.schemas.channels import Channel

MAX_LENGTH: Final = 16_384
_SHORT_PREFIX: Final = "~"  # no topic's name begins with it
_VERSION: Final = 1

_Number = Annotated[int, msgspec.Meta(ge=0, lt=2**62)]
_Encoded = tuple[int, dict[str, dict[_Number, _Number]]]


@dataclass(frozen=True, slots=True)
class Cursor:
    """The next offset of each of a channel's partitions; a partition that is not named starts at its first."""

    channel: Channel
    offsets: Mapping[TopicPartition, int] = field(default_factory=dict)

    def encode(self) -> str:
        """Encode it as text for clients."""
        prefix = topics.records(self.channel.name, "")
        by_topic: dict[str, dict[int, int]] = {}
        for (topic, partition), offset in self.offsets.items():
            if not offset:
                continue
            name = _SHORT_PREFIX + topic.removeprefix(prefix) if topic.startswith(prefix) else topic
            by_topic.setdefault(name, {})[partition] = offset
        packed = msgspec.msgpack.encode((_VERSION, by_topic))
        return base64.urlsafe_b64encode(packed).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str, channel: Channel) -> Cursor:
        """Decode the text of a client of the channel's stream. Raises `BadQuery` if it is not a valid cursor."""
        if len(text) > MAX_LENGTH:
            raise _invalid(channel)
        try:
            packed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            version, by_topic = msgspec.msgpack.decode(packed, type=_Encoded)
        except (binascii.Error, msgspec.DecodeError, ValueError, RecursionError) as error:
            raise _invalid(channel) from error
        if version != _VERSION:
            raise _invalid(channel)
        prefix = topics.records(channel.name, "")
        offsets = {
            (prefix + name[1:] if name.startswith(_SHORT_PREFIX) else name, partition): offset
            for name, partitions in by_topic.items()
            for partition, offset in partitions.items()
        }
        return cls(channel, offsets)

    def validate(self, end_offsets: Mapping[TopicPartition, int]) -> None:
        """Raise `BadQuery` if it names a partition that does not exist or an offset beyond its end."""
        if any(offset > end_offsets.get(topic_partition, -1) for topic_partition, offset in self.offsets.items()):
            raise _invalid(self.channel)


def _invalid(channel: Channel) -> BadQuery:
    return BadQuery(f"the id to resume from is not valid; leave it out to start with new {channel.name}")
