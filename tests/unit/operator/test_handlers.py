"""Which objects the operator watches, decided before kopf starts."""

import os
import subprocess
import sys

import pytest

from tests.unit.operator.conftest import SETTINGS
from tests.unit.operator.test_settings import variable

_PRINT = (
    "from k2.operator import handlers; print(*(child for child in handlers._CHILDREN if child[2] == 'kafkatopics'))"
)


@pytest.mark.parametrize("version", ["v1", "v1beta2"])
def test_topics_are_watched_in_the_version_in_which_they_are_written(version):
    variables = {variable(name): str(value) for name, value in (SETTINGS | {"kafka_topic_version": version}).items()}
    done = subprocess.run(
        [sys.executable, "-c", _PRINT], env=os.environ | variables, check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == str(("kafka.strimzi.io", version, "kafkatopics"))
