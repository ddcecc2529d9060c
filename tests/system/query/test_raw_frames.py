"""Frames that an ingest could not parse, read over HTTP: newest first, and unchanged."""

import base64
import time
from datetime import UTC, datetime, timedelta

import pytest
from starlette.testclient import TestClient

from k2.ingest.dead_letters import encode_items
from k2.ingest.exchanges.base import InvalidItem
from k2.ingest.kafka.publisher import Publisher, Topics
from k2.ingest.telemetry.stats import Stats
from k2.query.api.app import create
from k2.query.api.settings import ApiSettings
from k2.query.kafka import raw_frames
from k2.schemas import topics
from k2.schemas.channels import TRADES
from tests.system.lab import TOPIC, Lab

pytestmark = pytest.mark.system

DEAD_LETTERS_PATH = "/v1/dead-letters"


async def write(lab: Lab, exchange: str, *frames: tuple[bytes, str, str], items: bytes = b"") -> None:
    """Write frames as the ingest of an exchange does, each with its error and reason."""
    stats = Stats(started_at=time.monotonic())
    names = Topics(TOPIC, TOPIC, topics.dead_letters(exchange))
    publisher = Publisher(lab.platform.kafka, TRADES, names, "spot", 1, stats)
    for frame, error, reason in frames:
        publisher.send_dead_letter(frame, error, reason, items=items)
    assert await publisher.close(60) == 0


async def test_raw_frames_are_listed_newest_first_and_returned_unchanged(lab: Lab, monkeypatch: pytest.MonkeyPatch):
    text, binary = b'{"e":"trade","p":"\xc3\xa4"}', bytes(range(256))
    for exchange in ("binance", "kraken"):
        lab.create(topics.dead_letters(exchange))
    began = datetime.now(UTC)
    await write(lab, "binance", (text, "MALFORMED", "p is no number"), (binary, "MALFORMED", "not UTF-8"))
    invalid = [InvalidItem("UNKNOWN_SYMBOL", "no symbol", index=2)]
    await write(lab, "kraken", (b"[]", "UNKNOWN_SYMBOL", "no symbol"), items=encode_items(invalid))
    with TestClient(create(ApiSettings.read(), lab.platform), base_url="http://localhost") as api:

        def rows(**query: object) -> list[dict[str, object]]:
            answer = api.get(DEAD_LETTERS_PATH, params={"stage": "ingest", **query})
            assert answer.status_code == 200, answer.text
            return answer.json()["data"]

        frames = rows()
        assert {row["error_message"] for row in frames} == {"p is no number", "not UTF-8", "no symbol"}
        assert frames[0]["exchange"] == "KRAKEN"
        assert [row["dead_lettered_at"] for row in frames] == sorted(
            (row["dead_lettered_at"] for row in frames), reverse=True
        )
        assert {row["bytes"] for row in frames} == {len(text), 256, 2}
        assert [row["error_category"] for row in rows(exchange="binance")] == ["MALFORMED"] * 2
        assert [row["exchange"] for row in rows(category="UNKNOWN_SYMBOL")] == ["KRAKEN"]
        assert len(rows(limit=2)) == 2
        assert rows(end=(began - timedelta(minutes=1)).isoformat()) == []
        assert len(rows(start=(began - timedelta(minutes=1)).isoformat())) == 3
        monkeypatch.setattr(raw_frames, "MAX_FRAMES", 1)
        assert len(rows()) <= 1 + lab.partitions

        for row in frames:
            place = f"{DEAD_LETTERS_PATH}/{row['topic']}/{row['partition']}/{row['offset']}"
            whole = api.get(place).json()
            assert {name: whole[name] for name in ("exchange", "error_message", "dead_lettered_at", "offset")} == {
                name: row[name] for name in ("exchange", "error_message", "dead_lettered_at", "offset")
            }
            value = base64.b64decode(whole["value"])
            assert len(value) == row["bytes"]
            assert value in (text, binary, b"[]")
            named = [{"index": 2, "error": "UNKNOWN_SYMBOL", "reason": "no symbol"}]
            assert whole["items"] == (named if value == b"[]" else None)
            assert whole["text"] == (None if value == binary else value.decode())
        assert api.get(f"{DEAD_LETTERS_PATH}/{topics.dead_letters('binance')}/0/99").status_code == 404
        assert api.get(f"{DEAD_LETTERS_PATH}/{topics.dead_letters('nobody')}/0/0").status_code == 404


def test_without_kafka_the_response_is_503_with_retry_after(lab: Lab):
    nowhere = lab.platform.model_copy(update={"kafka_bootstrap": "127.0.0.1:1"})
    with TestClient(create(ApiSettings.read(), nowhere), base_url="http://localhost") as api:
        answer = api.get(DEAD_LETTERS_PATH, params={"stage": "ingest"})
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert "Kafka at 127.0.0.1:1" in answer.json()["detail"]
