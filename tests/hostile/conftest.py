"""The fixtures of the ingest's unit tests: simulated exchanges, a broker, shards."""

from tests.unit.conftest import eventually, simulate
from tests.unit.ingest.conftest import broker, names, shard

__all__ = ["broker", "eventually", "names", "shard", "simulate"]
