"""The session of this process, and how Python reads results from its JVM."""

import socket
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

pytestmark = pytest.mark.spark


def test_results_are_read_from_a_socket_in_the_file_system(spark: SparkSession):
    address = spark.range(3)._jdf.collectToPython()[0]
    assert Path(address).is_socket()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(address)
        assert client.recv(1)
