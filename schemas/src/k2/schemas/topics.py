"""The names of topics and subjects. The names are public: dashboards and users' consumers rely on them."""


def trades(exchange: str) -> str:
    """Avro trades of one exchange, keyed by symbol."""
    return f"market.crypto.trades.{exchange}"


def gaps(exchange: str) -> str:
    """JSON gap events of one exchange, keyed by symbol."""
    return f"market.crypto.gaps.{exchange}"


def deadletter(exchange: str) -> str:
    """Raw frames that could not be trusted."""
    return f"market.crypto.deadletter.{exchange}"


def subject(topic: str) -> str:
    """The schema registry's subject for a topic's values."""
    return f"{topic}-value"


NOT_FOR_TRADES = ("__", gaps(""), deadletter(""))  # Kafka's own topics begin with two underscores

DEAD_LETTER_ERROR = "k2-error"
DEAD_LETTER_REASON = "k2-reason"
DEAD_LETTER_FEED = "k2-feed"
