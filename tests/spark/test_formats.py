"""What another format wrote is refused with a sentence, before anything is read from it or written to it."""

import re
import threading
from pathlib import Path
from typing import Any

import pytest

from k2.common.schema_registry import Registry, RegistryUnavailable
from k2.jobs.app import App
from k2.jobs.audit.runner import audit
from k2.jobs.spark import tables as spark_tables
from k2.jobs.stream import Stream, initial_state
from k2.schemas import topics
from k2.schemas.channels import TRADES
from k2.schemas.codecs import avro
from k2.schemas.feed.model import ExchangeFeed
from k2.schemas.formats import OtherFormat
from k2.schemas.tables import GOLD_TABLE
from tests.spark.builders import Lake, consecutive, numbers

pytestmark = pytest.mark.spark

NARROW = avro.text().replace('"precision": 38, "scale": 12', '"precision": 18, "scale": 8')
OF_FORMAT_1 = NARROW.replace('"k2.format": 2,', "")


def _feed_of(topic: str, lake: Lake) -> ExchangeFeed:
    feed = lake.feed()
    spec = feed.spec.model_copy(update={"kafka": feed.spec.kafka.model_copy(update={"topic": topic})})
    return feed.model_copy(update={"spec": spec})


def _stream(lake: Lake, feed: ExchangeFeed, layer: str, **services: Any) -> Stream:
    platform = lake.platform.model_copy(update=services)
    return Stream(lake.spark, feed, platform, TRADES, layer, initial_state(feed, TRADES, layer))


@pytest.mark.parametrize(
    ("change", "actual"),
    [("UNSET TBLPROPERTIES ('k2.format')", 1), ("SET TBLPROPERTIES ('k2.format' = '3')", 3)],
)
def test_a_table_of_another_format_is_refused_before_its_columns_are_compared(lake: Lake, change: str, actual: int):
    lake.feed()
    lake.sql("ALTER TABLE {} DROP COLUMN side", GOLD_TABLE)
    lake.sql(f"ALTER TABLE {{}} {change}", GOLD_TABLE)
    with pytest.raises(OtherFormat, match=f"^the table {GOLD_TABLE.identifier} has format {actual}, .*upgrade.md"):
        spark_tables.ensure(lake.spark, [GOLD_TABLE])


def test_the_app_and_the_audit_refuse_tables_of_another_format(lake: Lake):
    feed = lake.feed()
    lake.sql("ALTER TABLE {} UNSET TBLPROPERTIES ('k2.format')", TRADES.silver("binance"))
    with pytest.raises(OtherFormat, match="silver_binance_trades has format 1"):
        App(lake.spark, lake.platform, [feed], ("silver",), restart=True).run(threading.Event())
    with pytest.raises(OtherFormat, match="silver_binance_trades has format 1"):
        audit(lake.spark, lake.platform)


@pytest.mark.parametrize("layer", ["bronze", "silver"])
def test_a_topic_with_schemas_of_another_format_is_refused(lake: Lake, layer: str):
    feed = _feed_of(f"old.{layer}", lake)
    Registry(lake.platform.registry).register(topics.subject(feed.topic(TRADES)), OF_FORMAT_1)
    with pytest.raises(OtherFormat, match=f"^the topic old.{layer} has format 1, "):
        _stream(lake, feed, layer).start()


def test_without_the_registry_only_silver_is_refused_for_its_topics_format(lake: Lake):
    feed, unreachable = lake.feed(), {"registry_url": "http://127.0.0.1:9"}
    _stream(lake, feed, "bronze", **unreachable)._check_topic()
    with pytest.raises(RegistryUnavailable):
        _stream(lake, feed, "silver", **unreachable).start()


@pytest.mark.parametrize("folder", ["trades/silver/v1", "silver/v1", "trades/silver/v3"])
def test_a_checkpoint_of_another_format_is_refused_in_every_layout(lake: Lake, folder: str):
    feed = lake.feed()
    lake.arrive(feed, consecutive(1, 2))
    lake.run(feed, "silver")
    checkpoint, other = lake.checkpoint(feed, "silver"), Path(lake.platform.checkpoints) / feed.name / folder
    other.parent.mkdir(exist_ok=True)
    checkpoint.rename(other)
    sentence = f"^the checkpoint {re.escape(str(other))} has format {folder[-1]}, "
    with pytest.raises(OtherFormat, match=sentence):
        lake.run(feed, "silver")
    with pytest.raises(OtherFormat, match=sentence):
        App(lake.spark, lake.platform, [feed], ("silver",), restart=True).run(threading.Event())
    other.rename(checkpoint)
    lake.run(feed, "silver")
    assert numbers(lake.silver()) == [1, 2]
