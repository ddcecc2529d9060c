"""`k2 crd`, in a process of its own."""

import yaml

from k2.schemas.feed import crd


def test_the_definition_is_printed_as_yaml(k2):
    done = k2("crd")
    assert (done.returncode, done.stderr) == (0, "")
    assert yaml.safe_load(done.stdout) == crd.definition()
