"""One-line summaries of failures that name the service: the catalog, the bucket, Kafka or the schema registry.

A Java error is a chain of causes, each with a stack trace. The last cause is what happened; the packages of the causes
identify the service.
"""

import re
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

TERMINATION_LOG: Final = Path("/dev/termination-log")  # what Kubernetes keeps of a container that has ended
_MAX_LENGTH: Final = 500
_QUERY: Final = "=== Streaming Query ==="  # the query's plan follows
_CAUSE: Final = re.compile(
    r"^(?:Caused by: |: )?((?:[a-z][\w$]*\.)*)([A-Z]\w*(?:Exception|Error|Unavailable)): (.*)$", re.MULTILINE
)
# With these words py4j begins a Java error in a Python traceback, and Spark looks for interruptions after them.
_JAVA_ERROR: Final = "py4j.protocol.Py4JJavaError: An error occurred while calling"
_INTERRUPTIONS: Final = (
    "java.lang.InterruptedException",
    "java.io.InterruptedIOException",
    "java.nio.channels.ClosedByInterruptException",
)
_SERVICES: Final = (
    (
        "the catalog",
        re.compile(
            r"org\.postgresql\.|java\.sql\.|iceberg\.(?:jdbc|rest)\.|UncheckedSQLException|RESTException|NotAuthorizedException|ServiceFailureException|ServiceUnavailableException"
        ),
    ),
    ("the bucket", re.compile(r"software\.amazon\.|\.s3a?\.|S3Exception|AWS\w*Exception")),
    ("Kafka", re.compile(r"org\.apache\.kafka\.|KafkaException")),
    ("the schema registry", re.compile(r"RegistryUnavailable")),
)


def full_text(error: BaseException) -> str:
    """Return an error's text with its causes, which Spark's exceptions keep apart from the message."""
    cause: Any = getattr(error, "_cause", None) or error.__cause__
    if cause is None:
        return str(error)
    return f"{error}\nCaused by: {getattr(cause, '_stackTrace', '') or cause}"


def summarize(text: str) -> str:
    """Return the last cause in an error's text, prefixed with the service that it came from."""
    causes = [(f"{package}{name}", f"{name}: {message.strip()}") for package, name, message in _CAUSE.findall(text)]
    if not causes:
        causes = [(text, " ".join(text.partition(_QUERY)[0].split()))]
    names = [name for name, _ in reversed(causes)]
    service = next((f"{label}: " for name in names for label, pattern in _SERVICES if pattern.search(name)), "")
    return f"{service}{causes[-1][1]}"[:_MAX_LENGTH]


def searchable(traceback: str) -> str:
    """Return the text of a failed batch such that Spark can search it for an interruption of the query.

    Behind py4j's words for a Java error Spark's pattern has a repeated alternative, which recurses for each character.
    Some 2,000 of them, which a Java stack trace has, overflow the stack, and the query fails with nothing but that.
    """
    if _JAVA_ERROR not in traceback:
        return traceback
    interruption = next((name for name in _INTERRUPTIONS if name in traceback.partition(_JAVA_ERROR)[2]), "")
    if not interruption:
        return traceback.replace(_JAVA_ERROR, "An error occurred in Java while calling")
    causes = ["", *(match.group() for match in _CAUSE.finditer(traceback))]
    return f"{_JAVA_ERROR} what {interruption} ended\n{causes[-1][:_MAX_LENGTH]}"


def first_line(error: BaseException) -> str:
    """Return the first line of a Spark error's message, without the stack trace."""
    lines = (line.strip() for line in str(error).splitlines())
    message = [line for line in lines if line and not line.startswith(("at ", "An error occurred while calling"))]
    return (message[0].lstrip(": ") if message else type(error).__name__)[:300]


def write_termination_message(message: str, path: Path = TERMINATION_LOG) -> None:
    """Write the reason for the exit to Kubernetes' termination log, if the process runs in a pod."""
    if path.is_file():
        with suppress(OSError):  # the log has the same message
            path.write_text(message, "utf-8")
