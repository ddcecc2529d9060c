"""The file with the numbers of shards."""

import pytest

from k2.schemas.sharding import UnreadableSharding, decode, encode, is_carried, shard_of


@pytest.mark.parametrize("counts", [(1,), (64,), (2, 3)])
def test_what_is_written_is_read(counts):
    assert decode(encode(counts).encode()) == counts


@pytest.mark.parametrize(
    "content", [b"", b"{}", b'{"counts":[]}', b'{"counts":[0]}', b'{"counts":[65]}', b'{"counts":[1,2,3]}', b"\xff"]
)
def test_another_file_is_refused(content):
    with pytest.raises(UnreadableSharding):
        decode(content)


def test_while_the_number_changes_both_shards_carry_a_symbol_that_moves():
    moved = next(name for name in map("COIN{}USDT".format, range(99)) if shard_of(name, 2) != shard_of(name, 3))
    assert [is_carried(moved, shard, (2, 3)) for shard in range(3)].count(True) == 2
    assert [is_carried(moved, shard, (3,)) for shard in range(3)] == [False, False, True]
