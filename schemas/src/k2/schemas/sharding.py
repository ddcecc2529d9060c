"""Over how many shards a feed's symbols are spread: the file that the operator writes for a feed's ingest processes.

While the number changes, the file has the number before and the one after it, and a process carries its symbols of
both: each symbol is carried by the processes of both numbers until those of the second receive everything. The file
may change while a process runs.
"""

import hashlib
from functools import lru_cache
from typing import Final

import msgspec

FILE: Final = "shards.json"
MAX_SHARDS: Final = 64

Counts = tuple[int, ...]  # one number of shards; two while it changes: the one before and the one after


class UnreadableSharding(ValueError):
    """The file is not one that K2 wrote."""


class Sharding(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`counts` are one or two numbers of shards."""

    counts: Counts


def encode(counts: Counts) -> str:
    """Return the content of the file."""
    return msgspec.json.encode(Sharding(counts=counts)).decode()


def decode(content: bytes | str) -> Counts:
    """Read the content of the file. Raises `UnreadableSharding`."""
    try:
        counts = msgspec.json.decode(content, type=Sharding).counts
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnreadableSharding(str(error)) from error
    if len(counts) not in {1, 2} or not all(1 <= count <= MAX_SHARDS for count in counts):
        raise UnreadableSharding(f"counts are {list(counts)}, must be one or two numbers from 1 to {MAX_SHARDS}")
    return counts


@lru_cache(maxsize=100_000)
def shard_of(raw_symbol: str, count: int) -> int:
    """Return the shard of a symbol, of `count` shards.

    Rendezvous hashing: one shard more takes its share of the symbols from the others and moves none between them, and
    one shard less gives back exactly those.
    """
    return max(range(count), key=lambda shard: hashlib.sha256(f"{shard}/{raw_symbol}".encode()).digest())


def is_carried(raw_symbol: str, shard: int, counts: Counts) -> bool:
    """Return whether a shard carries a symbol under any of some numbers of shards."""
    return any(shard < count and shard_of(raw_symbol, count) == shard for count in counts)
