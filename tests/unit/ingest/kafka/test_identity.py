"""When a changed file of the producer's identity replaces it."""

from pathlib import Path

from k2.common.kafka_connection import KafkaConnection, SecurityProtocol
from k2.ingest.kafka.identity import PATIENCE, IdentityFiles


def files(folder: Path) -> tuple[IdentityFiles, Path]:
    password = folder / "password"
    password.write_text("one")
    (folder / "ca.crt").write_text("ca")
    connection = KafkaConnection(
        "kafka:9093",
        SecurityProtocol.SASL_SSL,
        ca_file=str(folder / "ca.crt"),
        username="ingest",
        password_file=str(password),
    )
    return IdentityFiles(connection), password


def replace(path: Path, text: str) -> None:
    other = path.with_name("next")
    other.write_text(text)
    other.rename(path)


def test_a_change_is_due_once_when_nothing_is_in_flight(tmp_path: Path):
    identity, password = files(tmp_path)
    assert not identity.due(0, 0.0)
    replace(password, "two")
    assert not identity.due(3, 1.0)
    assert identity.due(0, 2.0)
    assert not identity.due(0, 3.0)


def test_records_in_flight_delay_it_for_a_while_only(tmp_path: Path):
    identity, _ = files(tmp_path)
    replace(tmp_path / "ca.crt", "other")
    assert not identity.due(3, 1.0)
    assert not identity.due(3, 0.9 + PATIENCE)
    assert identity.due(3, 1.1 + PATIENCE)


def test_a_file_that_vanishes_and_returns_is_due_too(tmp_path: Path):
    identity, password = files(tmp_path)
    password.unlink()
    assert identity.due(0, 1.0)
    password.write_text("two")
    assert identity.due(0, 2.0)


def test_without_files_nothing_is_ever_due():
    assert not IdentityFiles(KafkaConnection("kafka:9092")).due(0, 1.0)
