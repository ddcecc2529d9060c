"""A process follows the file that says how many share its address."""

import asyncio
import contextlib

import pytest

from k2.ingest.exchanges.base import Limits, RestBudget
from k2.ingest.network import egress
from k2.ingest.network.limits import AddressLimits
from k2.schemas.egress import UnreadableEgress, decode, encode


@pytest.fixture
async def followed(tmp_path, monkeypatch):
    monkeypatch.setattr(egress, "_INTERVAL", 0.01)
    file, limits = tmp_path / "egress.json", AddressLimits(RestBudget(10, 10), Limits())
    task = asyncio.create_task(egress.follow(file, limits))
    yield file, limits
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_a_changed_file_divides_the_limits(followed, eventually):
    file, limits = followed
    for processes in (3, 1, 40):
        file.write_text(encode(processes))
        await eventually(lambda processes=processes: limits.processes == processes)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"processes":"3"}', b'{"processes":0}', b'{"processes":-1}', b"\xff"]
)
async def test_an_unreadable_file_changes_nothing_and_the_next_good_one_does(content, followed, eventually):
    file, limits = followed
    file.write_text(encode(3))
    await eventually(lambda: limits.processes == 3)
    file.write_bytes(content)
    await asyncio.sleep(0.1)
    assert limits.processes == 3
    file.unlink()
    await asyncio.sleep(0.05)
    file.write_text(encode(2))
    await eventually(lambda: limits.processes == 2)
    with pytest.raises(UnreadableEgress):
        decode(content)


def test_a_reader_of_an_older_version_ignores_new_fields():
    assert decode(b'{"processes":7,"group":"gateway"}').processes == 7
