"""Why a process of the jobs failed, in one line that names the service: the catalog, the bucket, Kafka, the registry.

Java tells a failure as a chain of causes with a stack under each. The last cause says what happened; whose classes
the causes are says where.
"""

import re
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

TERMINATION_LOG: Final = Path("/dev/termination-log")  # what Kubernetes keeps of a container that has ended
_MOST: Final = 500
_QUERY: Final = "=== Streaming Query ==="  # from here on Spark tells the query's plan
_CAUSE: Final = re.compile(
    r"^(?:Caused by: |: )?((?:[a-z][\w$]*\.)*)([A-Z]\w*(?:Exception|Error|Unavailable)): (.*)$", re.MULTILINE
)
_SERVICES: Final = (
    ("the catalog", re.compile(r"org\.postgresql\.|java\.sql\.|iceberg\.jdbc\.|UncheckedSQLException")),
    ("the bucket", re.compile(r"software\.amazon\.|\.s3a?\.|S3Exception|AWS\w*Exception")),
    ("Kafka", re.compile(r"org\.apache\.kafka\.|KafkaException")),
    ("the schema registry", re.compile(r"RegistryUnavailable")),
)


def text(error: BaseException) -> str:
    """All that an error tells: Spark's own keeps the causes of what it says apart."""
    cause: Any = getattr(error, "_cause", None) or error.__cause__
    if cause is None:
        return str(error)
    return f"{error}\nCaused by: {getattr(cause, '_stackTrace', '') or cause}"


def told(text: str) -> str:
    """The last cause that an error's text tells, after the service that it came from."""
    causes = [(f"{package}{name}", f"{name}: {words.strip()}") for package, name, words in _CAUSE.findall(text)]
    if not causes:
        causes = [(text, " ".join(text.partition(_QUERY)[0].split()))]
    names = [name for name, _ in reversed(causes)]
    service = next((f"{part}: " for name in names for part, known in _SERVICES if known.search(name)), "")
    return f"{service}{causes[-1][1]}"[:_MOST]


def leave_word(words: str, path: Path = TERMINATION_LOG) -> None:
    """Tells Kubernetes why this process ends, where it runs in a pod."""
    if path.is_file():
        with suppress(OSError):  # the same words stand in the log
            path.write_text(words, "utf-8")
