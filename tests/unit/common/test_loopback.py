"""Which values of a Host header name this machine."""

import pytest

from k2.common.loopback import is_loopback


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:80", "127.0.0.1", "127.0.0.1:8000", "127.9.9.9:1", "[::1]", "[::1]:8000"]
)
def test_names_of_this_machine(host: str):
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        ":80",
        "evil.example",
        "localhost.evil.example:80",
        "127.0.0.1.evil.example",
        "10.0.0.1",
        "[::2]:80",
        "0.0.0.0",
    ],
)
def test_other_names(host: str):
    assert not is_loopback(host)
