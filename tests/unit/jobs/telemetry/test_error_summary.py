"""One-line summaries of Spark and Java errors, and the termination message."""

import pytest

from k2.jobs.telemetry import error_summary

CATALOG = """An error occurred while calling o64.createTable.
: org.apache.iceberg.jdbc.UncheckedSQLException: Failed to get table k2.market_data.gold from catalog k2
\tat org.apache.iceberg.jdbc.JdbcTableOperations.doRefresh(JdbcTableOperations.java:93)
\tat org.apache.spark.sql.kafka010.KafkaSource.get(KafkaSource.java:1)
Caused by: org.postgresql.util.PSQLException: FATAL: password authentication failed for user "k2"
\tat org.postgresql.core.v3.ConnectionFactoryImpl.doAuthentication(ConnectionFactoryImpl.java:711)
\t... 51 more
"""
BUCKET = """Query gold [id = 1] terminated with exception: Writing job aborted
: org.apache.spark.SparkException: [WRITING_JOB_ABORTED] Writing job aborted
Caused by: software.amazon.awssdk.services.s3.model.S3Exception: Storage backend has reached its minimum (Status 507)
\tat software.amazon.awssdk.services.s3.DefaultS3Client.putObject(DefaultS3Client.java:1)
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (CATALOG, 'the catalog: PSQLException: FATAL: password authentication failed for user "k2"'),
        (BUCKET, "the bucket: S3Exception: Storage backend has reached its minimum (Status 507)"),
        (
            "x\nCaused by: org.apache.kafka.common.errors.TimeoutException: Timed out waiting for a node",
            "Kafka: TimeoutException: Timed out waiting for a node",
        ),
        (
            "Caused by: k2.common.schema_registry.RegistryUnavailable: http://k2-registry: refused\n",
            "the schema registry: RegistryUnavailable: http://k2-registry: refused",
        ),
        ("java.lang.IllegalStateException: unrelated", "IllegalStateException: unrelated"),
        ("two\n lines", "two lines"),
        ("Failed to get table t\n=== Streaming Query ===\nIdentifier: gold", "Failed to get table t"),
        (
            "bronze: Writing Object on x.tmp: software.amazon.awssdk.services.s3.model.S3Exception: full",
            "the bucket: bronze: Writing Object on x.tmp: software.amazon.awssdk.services.s3.model.S3Exception: full",
        ),
        ("", ""),
    ],
)
def test_summary_names_the_service_and_the_last_cause(text, expected):
    assert error_summary.summarize(text) == expected


def test_full_text_includes_causes_that_spark_keeps_apart():
    error = RuntimeError("Failed to get table t\n=== Streaming Query ===\nIdentifier: gold")
    assert error_summary.summarize(error_summary.full_text(error)) == "Failed to get table t"
    error._cause = RuntimeError("the first of them")
    error._cause._stackTrace = CATALOG.partition("\n: ")[2]
    assert error_summary.summarize(error_summary.full_text(error)).startswith(
        "the catalog: PSQLException: FATAL: password"
    )
    error._cause = None
    error.__cause__ = ConnectionError("unreachable")
    assert error_summary.full_text(error).endswith("Caused by: unreachable")


def test_summary_is_limited_to_500_characters():
    assert len(error_summary.summarize(f"Caused by: a.bException: {'x' * 9_000}")) <= 500
    assert len(error_summary.summarize("x" * 9_000)) == 500


def test_termination_message_is_written_only_if_the_file_exists(tmp_path):
    error_summary.write_termination_message("the reason", tmp_path / "none")
    assert not (tmp_path / "none").exists()
    (tmp_path / "log").touch()
    error_summary.write_termination_message("the reason", tmp_path / "log")
    assert (tmp_path / "log").read_text() == "the reason"


_BEGINNING = """Traceback (most recent call last):
  File "stream.py", line 1, in run
py4j.protocol.Py4JJavaError: An error occurred while calling o1.append.
"""
_FRAMES = "\tat org.apache.iceberg.spark.Commit.run(Commit.java:1)\n" * 500


def test_what_spark_searches_for_interruptions_is_short_after_the_words_for_a_java_error_or_lacks_them():
    failed = f"{_BEGINNING}: java.lang.IllegalStateException: first\n{_FRAMES}Caused by: x.y.LastError: full\n{_FRAMES}"
    searchable = error_summary.searchable(failed)
    assert "Py4JJavaError: An error occurred while calling" not in searchable
    assert (searchable.count("\tat "), error_summary.summarize(searchable)) == (1_000, "LastError: full")

    interrupted = failed.replace("x.y.LastError: full", "java.lang.InterruptedException: sleep")
    searchable = error_summary.searchable(interrupted)
    assert searchable.startswith("py4j.protocol.Py4JJavaError: An error occurred while calling")
    assert "java.lang.InterruptedException" in searchable
    assert len(searchable) < 1_000
    assert error_summary.summarize(f"k2.BatchFailed: {searchable}\n") == "InterruptedException: sleep"
    assert error_summary.searchable("ValueError: no Java in here") == "ValueError: no Java in here"
