"""Names of Kafka topics, registry subjects and dead-letter headers. Public: consumers and dashboards rely on them."""

from typing import Final


def records(channel: str, exchange: str) -> str:
    """Return the topic of one exchange's Avro records of a channel, keyed by symbol."""
    return f"market.crypto.{channel}.{exchange}"


def trades(exchange: str) -> str:
    """Return the topic of one exchange's Avro trades, keyed by symbol."""
    return records("trades", exchange)


def gaps(exchange: str) -> str:
    """Return the topic of one exchange's JSON gap events, keyed by symbol."""
    return f"market.crypto.gaps.{exchange}"


def evidence(exchange: str) -> str:
    """Return the topic of one exchange's own answers that verdicts on gaps rest on, keyed by the body's SHA-256."""
    return f"market.crypto.evidence.{exchange}"


def dead_letters(exchange: str) -> str:
    """Return the topic of one exchange's raw frames that could not be parsed or trusted."""
    return f"market.crypto.deadletter.{exchange}"


def instruments(exchange: str) -> str:
    """Return the topic of one exchange's instruments, each version once, keyed by raw symbol."""
    return f"market.crypto.instruments.{exchange}"


def remade(topic: str, topic_id: str) -> str:
    """Return the name under which tables keep the records of a topic that was made again, with Kafka's id of it.

    Its offsets begin at 0 again; under the topic's own name they would be those of other records. No name of Kafka has
    a `#`.
    """
    return f"{topic}#{topic_id}"


def in_kafka(topic: str) -> str:
    """Return the name in Kafka of a topic that tables name."""
    return topic.partition("#")[0]


def subject(topic: str) -> str:
    """Return the schema registry's subject of a topic's values."""
    return f"{in_kafka(topic)}-value"


# Topics that must not hold records of a channel; Kafka's own begin with two underscores.
RESERVED_PREFIXES: Final = ("__", gaps(""), dead_letters(""), evidence(""), instruments(""))

DEAD_LETTER_ERROR: Final = "k2-error"
DEAD_LETTER_REASON: Final = "k2-reason"
DEAD_LETTER_FEED: Final = "k2-feed"
DEAD_LETTER_ITEMS: Final = "k2-items"
