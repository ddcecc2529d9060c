"""Fields that a feed rejects, and defaults of an accepted one."""

import json

import pytest

from k2.common.validation_errors import ABSENT, InvalidSpec, format_value
from k2.schemas.channels import TRADES
from k2.schemas.feed.model import ExchangeFeed


def refusal(body: dict) -> str:
    with pytest.raises(InvalidSpec) as raised:
        ExchangeFeed.from_body(body)
    assert len(str(raised.value)) < 2000
    return str(raised.value)


def test_an_unknown_exchange_is_refused_with_those_that_are_known(body):
    text = refusal(body(exchange="ftx"))
    assert text.startswith('spec.exchange: "ftx" is not allowed: must be ')
    for name in ("binance", "kraken", "coinbase", "bybit", "okx"):
        assert f"'{name}'" in text


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"symbls": []}, "spec.symbls"),
        ({"ingest": {"shard": 2}}, "spec.ingest.shard"),
        ({"ingest": {"backfill": {"max": 1}}}, "spec.ingest.backfill.max"),
        ({"layers": {"bronze": {"interval": "1s"}}}, "spec.layers.bronze.interval"),
        ({"layers": {"gold": {"retention": "7d"}}}, "spec.layers.gold.retention"),
        ({"layers": {"sparkConf": {"spark.jars": "x"}}}, "spec.layers.sparkConf"),
        ({"kafka": {"resources": {}}}, "spec.kafka.resources"),
    ],
)
def test_a_field_that_does_not_exist_is_refused_by_its_path(body, spec, path):
    text = refusal(body(**spec))
    assert text.startswith(f"{path}: ")
    assert text.endswith("unknown field; check its spelling and indentation")


@pytest.mark.parametrize("value", ["0s", "-1", "-1s", "1ns", "1.5s", "99999999999999999999d", "", "ten", "1s\n"])
@pytest.mark.parametrize(
    ("path", "spec"),
    [
        ("spec.layers.bronze.trigger", lambda value: {"layers": {"bronze": {"trigger": value}}}),
        ("spec.layers.silver.retention", lambda value: {"layers": {"silver": {"retention": value}}}),
        ("spec.kafka.retention", lambda value: {"kafka": {"retention": value}}),
        ("spec.ingest.backfill.maxAge", lambda value: {"ingest": {"backfill": {"maxAge": value}}}),
    ],
)
def test_what_is_no_duration_is_refused_with_an_example(body, path, spec, value):
    text = refusal(body(**spec(value)))
    assert text.startswith(f"{path}: {json.dumps(value)} is not allowed: ")
    assert text.endswith("write a whole number and ms, s, m, h or d, such as 10s")


@pytest.mark.parametrize(
    ("spec", "allowed"),
    [
        ({"layers": {"bronze": {"trigger": "99ms"}}}, "between 100ms and 1h"),
        ({"layers": {"gold": {"trigger": "2h"}}}, "between 100ms and 1h"),
        ({"layers": {"gold": {"trigger": "999999999d"}}}, "between 100ms and 1h"),
        ({"kafka": {"retention": "999999999d"}}, "between 1m and 3650d"),
        ({"ingest": {"backfill": {"maxAge": "59s"}}}, "between 1m and 3650d"),
    ],
)
def test_a_duration_out_of_bounds_is_refused_with_the_bounds(body, spec, allowed):
    assert refusal(body(**spec)).endswith(f"is not allowed: must be {allowed}")


@pytest.mark.parametrize("value", ["-1", "1Tib", "one", "1e3", "1 Gi", "", "Gi", "1Gi\n", ".5", "1" * 13])
def test_what_is_no_quantity_is_refused_with_the_pattern(body, value):
    text = refusal(body(ingest={"resources": {"limits": {"memory": value}}}))
    assert text.startswith(
        f"spec.ingest.resources.limits.memory: {json.dumps(value)} is not allowed: must match ^[0-9]"
    )


@pytest.mark.parametrize("value", ["1", "500m", "0.5", "2Gi", "128Mi"])
def test_kubernetes_quantities_are_accepted(feed, value):
    assert feed(ingest={"resources": {"limits": {"memory": value}}}).spec.ingest.resources.limits.memory == value


@pytest.mark.parametrize("name", ["a" * 41, "A", "a_b", "-a", "a-", "a.b", "a/b", "a\n", "", "ä"])
def test_a_name_that_kubernetes_or_its_children_cannot_carry_is_refused(body, name):
    text = refusal(body(name))
    assert text.startswith(f"metadata.name: {json.dumps(name)} is not allowed: must ")


def test_a_name_of_forty_characters_is_accepted(feed):
    assert feed("a" * 40).name == "a" * 40


@pytest.mark.parametrize(
    ("part", "value", "allowed"),
    [("kind", "Pod", "must be 'ExchangeFeed'"), ("apiVersion", "v1", "must be 'k2.marketdata.io/v1alpha1'")],
)
def test_another_kind_of_object_is_refused(body, part, value, allowed):
    assert refusal(body() | {part: value}) == f'{part}: "{value}" is not allowed: {allowed}'


@pytest.mark.parametrize("part", ["spec", "kind", "apiVersion", "metadata"])
def test_a_missing_part_is_named(body, part):
    feed_body = body()
    del feed_body[part]
    assert refusal(feed_body) == f"{part}: this field is required"


@pytest.mark.parametrize(
    ("endpoint", "allowed"),
    [
        ("http://stream.example", "must be a URL that begins with ws:// or wss://"),
        ("stream.example", "must be a URL that begins with ws:// or wss://"),
        ("wss://", "must be a URL that begins with ws:// or wss://"),
        ("wss://host:99999999", "Port out of range 0-65535"),
        ("wss://host:0", "must be a URL that begins with ws:// or wss://"),
        ("wss://[::1", "Invalid IPv6 URL"),
        ("wss://ho\nst", "must contain only printable ASCII characters, no spaces or line breaks"),
        ("wss://host/a b", "must contain only printable ASCII characters, no spaces or line breaks"),
        ("wss://h\u043est", "must contain only printable ASCII characters, no spaces or line breaks"),
    ],
)
def test_an_endpoint_that_is_no_websocket_url_is_refused(body, endpoint, allowed):
    text = refusal(body(ingest={"endpoints": [endpoint]}))
    assert text == f"spec.ingest.endpoints[0]: {json.dumps(endpoint)} is not allowed: {allowed}"


def test_credentials_in_an_endpoint_are_refused_and_not_repeated(body):
    text = refusal(body(ingest={"endpoints": ["wss://bob:hunter2@host"], "restEndpoint": "https://bob:hunter2@host"}))
    assert text.count("must not contain a user name or password") == 2
    assert "hunter2" not in text


@pytest.mark.parametrize(
    ("spec", "path", "allowed"),
    [
        ({"ingest": {"shards": 0}}, "spec.ingest.shards: 0", "must be greater than or equal to 1"),
        ({"ingest": {"shards": 65}}, "spec.ingest.shards: 65", "must be less than or equal to 64"),
        ({"ingest": {"shards": "2"}}, 'spec.ingest.shards: "2"', "must be auto or a whole number from 1 to 64"),
        ({"ingest": {"shards": True}}, "spec.ingest.shards: True", "must be a whole number"),
        (
            {"ingest": {"autoscale": {"min": 9}}},
            "spec.ingest.autoscale: {'min': 9}",
            "autoscale.min must be at most autoscale.max",
        ),
        ({"ingest": {"redundancy": 3}}, "spec.ingest.redundancy: 3", "must be less than or equal to 2"),
        ({"kafka": {"partitions": -1}}, "spec.kafka.partitions: -1", "must be greater than or equal to 0"),
        ({"kafka": {"topic": "a b"}}, 'spec.kafka.topic: "a b"', "must match"),
        ({"layers": {"topology": "One"}}, 'spec.layers.topology: "One"', "must be 'PerLayer' or 'Combined'"),
        ({"layers": {"gold": {"executors": 99}}}, "spec.layers.gold.executors: 99", "must be less than or equal to 32"),
        ({"deletionPolicy": "Drop"}, 'spec.deletionPolicy: "Drop"', "must be 'Retain' or 'Delete'"),
        ({"ingest": []}, "spec.ingest: []", "must be a mapping"),
        ({"layers": "fast"}, 'spec.layers: "fast"', "must be a mapping"),
        ({"kafka": {"topic": "."}}, 'spec.kafka.topic: "."', "not a valid Kafka topic name"),
        ({"kafka": {"topic": ".."}}, 'spec.kafka.topic: ".."', "not a valid Kafka topic name"),
        ({"kafka": {"topic": "a" * 201}}, f'spec.kafka.topic: "{"a" * 77}..."', "must match"),
        ({"placement": {"tolerations": {}}}, "spec.placement.tolerations: {}", "must be a list"),
    ],
)
def test_a_value_out_of_its_range_is_refused_with_the_range(body, spec, path, allowed):
    assert refusal(body(**spec)).startswith(f"{path} is not allowed: {allowed}")


@pytest.mark.parametrize(
    "topic",
    [
        "__consumer_offsets",
        "__x",
        "market.crypto.gaps.binance",
        "market.crypto.deadletter.kraken",
        "market.crypto.evidence.okx",
        "market.crypto.instruments.okx",
    ],
)
def test_a_topic_that_holds_something_else_is_refused_for_trades(body, topic):
    text = refusal(body(kafka={"topic": topic}))
    assert text.startswith(f'spec.kafka.topic: "{topic}" is not allowed: names that begin with __ or ')


@pytest.mark.parametrize("topic", ["a", "a.b", "...", "_a", "market.crypto.trades.mine"])
def test_a_topic_of_ones_own_is_accepted(feed, topic):
    assert feed(kafka={"topic": topic}).topic(TRADES) == topic


@pytest.mark.parametrize("value", ["2", True, False, 2.0, 1.5, None, [], {}])
@pytest.mark.parametrize(
    ("path", "spec"),
    [
        ("spec.ingest.redundancy", lambda value: {"ingest": {"redundancy": value}}),
        ("spec.kafka.partitions", lambda value: {"kafka": {"partitions": value}}),
        ("spec.layers.bronze.executors", lambda value: {"layers": {"bronze": {"executors": value}}}),
        ("spec.layers.gold.executors", lambda value: {"layers": {"gold": {"executors": value}}}),
    ],
)
def test_what_is_no_whole_number_is_not_taken_for_one(body, path, spec, value):
    assert refusal(body(**spec(value))) == f"{path}: {format_value(value)} is not allowed: must be a whole number"


@pytest.mark.parametrize("value", ["true", "yes", "off", 1, 0, None])
@pytest.mark.parametrize(
    ("path", "spec"),
    [
        ("spec.suspend", lambda value: {"suspend": value}),
        ("spec.ingest.backfill.enabled", lambda value: {"ingest": {"backfill": {"enabled": value}}}),
    ],
)
def test_what_is_neither_true_nor_false_is_not_taken_for_one(body, path, spec, value):
    assert refusal(body(**spec(value))) == f"{path}: {format_value(value)} is not allowed: must be true or false"


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"deletion_policy": "Delete"}, "spec.deletion_policy"),
        ({"ingest": {"rest_endpoint": "https://api.example"}}, "spec.ingest.rest_endpoint"),
        ({"ingest": {"backfill": {"max_age": "2h"}}}, "spec.ingest.backfill.max_age"),
    ],
)
def test_a_field_has_one_spelling(body, spec, path):
    assert refusal(body(**spec)).startswith(f"{path}: ")


def test_a_layer_that_forgets_before_it_is_read_is_refused(body):
    text = refusal(body(layers={"bronze": {"trigger": "1h", "retention": "9h"}}))
    assert text.startswith("spec.layers: ")
    assert text.endswith("retention 9h must be at least 10 times the trigger 1h")


def test_problems_keep_path_value_and_what_is_allowed_apart(body):
    with pytest.raises(InvalidSpec) as raised:
        ExchangeFeed.from_body(body(ingest={"shards": 0}, symbls=1))
    assert [(problem.path, problem.value) for problem in raised.value.problems] == [
        ("spec.symbls", 1),
        ("spec.ingest.shards", 0),
    ] or [(problem.path, problem.value) for problem in raised.value.problems] == [
        ("spec.ingest.shards", 0),
        ("spec.symbls", 1),
    ]
    with pytest.raises(InvalidSpec) as absent:
        ExchangeFeed.from_body({})
    assert {problem.value for problem in absent.value.problems} == {ABSENT}


def test_a_minimal_feed_has_the_documented_defaults(feed):
    spec = feed().spec
    assert (spec.suspend, spec.deletion_policy) == (False, "Retain")
    assert (spec.ingest.shards, spec.ingest.redundancy, spec.ingest.endpoints) == (1, 1, ())
    backfill = spec.ingest.backfill
    assert (backfill.enabled, backfill.max_age, backfill.max_ids) == (True, "7d", 0)
    assert (spec.kafka.topic, spec.kafka.partitions, spec.kafka.retention) == ("", 0, "168h")
    assert spec.layers.topology == "PerLayer"
    assert [layer.trigger for layer in (spec.layers.bronze, spec.layers.silver, spec.layers.gold)] == [
        "10s",
        "30s",
        "60s",
    ]
    assert [layer.retention for layer in (spec.layers.bronze, spec.layers.silver)] == ["7d", "30d"]
    assert (feed().topic(TRADES), feed().partitions(TRADES)) == ("market.crypto.trades.binance", 40)


def test_fields_are_read_in_camel_case(feed):
    parsed = feed(
        deletionPolicy="Delete",
        ingest={
            "restEndpoint": "https://api.example/",
            "backfill": {"maxAge": "2h", "maxIds": 5},
        },
        placement={"priorityClassName": "high"},
        kafka={"topic": "mine", "partitions": 3},
    )
    assert parsed.spec.deletion_policy == "Delete"
    assert parsed.spec.ingest.rest_endpoint == "https://api.example"
    assert (parsed.spec.ingest.backfill.max_age, parsed.spec.ingest.backfill.max_ids) == ("2h", 5)
    assert parsed.spec.placement.priority_class_name == "high"
    assert (parsed.topic(TRADES), parsed.partitions(TRADES)) == ("mine", 3)


def test_a_layer_given_in_part_keeps_its_other_defaults(feed):
    bronze = feed(layers={"bronze": {"executors": 0}}).spec.layers.bronze
    assert (bronze.executors, bronze.trigger, bronze.retention) == (0, "10s", "7d")


def test_a_stored_objects_status_and_other_metadata_do_not_matter(body):
    stored = body()
    stored["metadata"] |= {"uid": "x", "resourceVersion": "1", "namespace": "trading"}
    stored["status"] = {"phase": "Running"}
    assert ExchangeFeed.from_body(stored).metadata.namespace == "trading"
