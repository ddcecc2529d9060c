"""One dead letter a frame: the raw frame once, and which of its items are bad, and why."""

import json
from collections import Counter

import pytest

from k2.ingest import dead_letters
from k2.ingest.exchanges import adapter
from k2.ingest.exchanges.base import INEXACT, MALFORMED_ITEM, NO_ID, UNSUBSCRIBED, InvalidItem
from k2.ingest.simulator.listings import pair_of
from k2.schemas.channels import TRADES
from k2.schemas.exchanges.registry import EXCHANGES


def bybit_item(number: int, **fields: object) -> dict[str, object]:
    return {"T": 1672304486865, "s": "BTCUSDT", "S": "Buy", "v": "0.001", "p": "16578.50", "i": f"id{number}"} | fields


def bybit_frame(*items: object) -> bytes:
    return json.dumps({"topic": "publicTrade.BTCUSDT", "data": items}).encode()


def okx_item(number: int, **fields: object) -> dict[str, object]:
    item = {"instId": "BTC-USDT", "tradeId": str(number), "px": "1.5", "sz": "2", "side": "buy", "ts": str(number)}
    return item | {"source": "0"} | fields


def okx_frame(*items: object) -> bytes:
    return json.dumps({"arg": {"channel": "trades-all", "instId": "BTC-USDT"}, "data": items}).encode()


class Link:
    def __init__(self, exchange: str) -> None:
        self.adapter = adapter(exchange, TRADES, [pair_of(EXCHANGES[exchange], EXCHANGES[exchange].symbol_example)])
        self.unseen: set[str] = set()


def dead_letters_of(ingest) -> list[tuple[bytes, dict[str, bytes]]]:
    messages = ingest.broker.read(ingest.names.dead_letters)
    return [(message.value(), dict(message.headers())) for message in messages]


async def test_a_frame_with_bad_items_is_one_dead_letter_that_names_them(shard):
    ingest = shard("bybit", ["BTCUSDT"])
    frame = bybit_frame(
        bybit_item(0), bybit_item(1, S="None"), bybit_item(2), bybit_item(3, p="NaN"), bybit_item(4, s="ETHUSDT"), 7
    )
    ingest.pipeline.handle(frame, 1, Link("bybit"))
    assert await ingest.stop() == 0
    assert sorted(record["trade_id"] for record in ingest.stored()) == ["id0", "id2"]
    ((value, headers),) = dead_letters_of(ingest)
    assert value == frame
    assert headers["k2-error"] == MALFORMED_ITEM.encode()
    assert headers["k2-reason"].startswith(b"Invalid enum value 'None'")
    assert headers["k2-reason"].endswith(b"; and 3 more invalid items")
    items = json.loads(headers["k2-items"])
    assert [(item["index"], item["error"]) for item in items] == [
        (1, MALFORMED_ITEM), (3, INEXACT), (4, UNSUBSCRIBED), (5, MALFORMED_ITEM),
    ]  # fmt: skip
    assert "'NaN'" in items[1]["reason"]
    assert [item.get("symbol") for item in items] == ["BTCUSDT", "BTCUSDT", None, None]
    assert ingest.stats.dead_letters == {MALFORMED_ITEM: 1}
    assert {kind: count for kind, count in ingest.stats.errors.items() if count} == {
        "malformed_item": 2, "inexact_value": 1, "unsubscribed_symbol": 1,
    }  # fmt: skip


async def test_two_hundred_bad_prices_are_one_copy_of_their_frame(shard):
    ingest = shard("bybit", ["BTCUSDT"])
    frame = bybit_frame(*(bybit_item(number, p="NaN") for number in range(200)))
    ingest.pipeline.handle(frame, 1, Link("bybit"))
    assert await ingest.stop() == 0
    ((value, headers),) = dead_letters_of(ingest)
    assert value == frame
    assert sum(map(len, headers.values())) < 10_000
    *named, rest = json.loads(headers["k2-items"])
    assert [item["index"] for item in named] == list(range(len(named)))
    assert rest == {"indexes": f"{len(named)}-199", "count": 200 - len(named)}
    assert headers["k2-reason"].endswith(b"; and 199 more invalid items")


async def test_a_frame_that_is_bad_as_a_whole_names_no_items(shard):
    ingest = shard("bybit", ["BTCUSDT"])
    ingest.pipeline.handle(b"{", 1, Link("bybit"))
    assert await ingest.stop() == 0
    ((_, headers),) = dead_letters_of(ingest)
    assert headers.keys() == {"k2-error", "k2-reason", "k2-feed"}
    assert headers["k2-error"] == b"MALFORMED_FRAME"


async def test_a_readable_id_of_a_bad_item_is_not_missing_and_an_unreadable_one_is(shard):
    ingest = shard("okx", ["BTC-USDT"])
    link = Link("okx")
    ingest.pipeline.handle(okx_frame(okx_item(10), okx_item(11, side="None"), okx_item(12)), 1, link)
    assert not ingest.stats.gaps_detected
    ingest.pipeline.handle(okx_frame(okx_item(13), okx_item(14, tradeId=None), okx_item(15, px="0")), 1, link)
    assert ingest.stats.gaps_detected == {"BTCUSDT": 1}  # 14, before the id of the bad 15
    assert ingest.pipeline.barrier is not None
    ingest.pipeline.handle(okx_frame(okx_item(16)), 1, link)
    assert ingest.tracker.missing(ingest.ledger.repairs.get_nowait()) == ((14, 14),)
    await ingest.publisher.close(10)
    await ingest.pipeline.settle()
    assert await ingest.stop() == 0
    assert Counter(record["trade_id"] for record in ingest.stored()) == Counter(["10", "12", "13", "16"])
    assert len(dead_letters_of(ingest)) == 2  # though the gap interrupted the second frame


@pytest.mark.parametrize("count", [1, 2, 50, 5000, 100_000])
def test_the_names_of_any_number_of_items_are_bounded(count):
    items = [InvalidItem(INEXACT, "r" * 5000, "BTCUSDT", 2**63 - 1, 3 * index) for index in range(count)]
    text = dead_letters.encode_items(items)
    assert len(text) < dead_letters.MAX_ITEMS + 2048
    entries = json.loads(text)
    assert sum(entry.get("count", 1) for entry in entries) == count
    assert entries[0]["id"] == 2**63 - 1


def test_a_dead_letter_has_a_symbol_only_if_all_items_are_of_it():
    items = [InvalidItem(INEXACT, "", symbol, NO_ID) for symbol in ("BTCUSDT", "BTCUSDT", "ETHUSDT")]
    assert (dead_letters.symbol_of(items[:2]), dead_letters.symbol_of(items)) == ("BTCUSDT", "")
