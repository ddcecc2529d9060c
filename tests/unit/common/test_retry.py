"""How retries are logged; what is retried is tested where it is."""

import pytest
from structlog.testing import capture_logs

from k2.common.retry import RetryingCaller


@pytest.mark.usefixtures("no_waits")
def test_each_retry_is_logged_with_the_first_line_of_its_error():
    def fail(_: str) -> None:
        raise OSError("no answer\n\tat java.lang.Thread")

    with capture_logs() as lines, pytest.raises(OSError, match="no answer"):
        RetryingCaller(attempts=3)(OSError, fail, "secret")
    assert [(line["event"], line["error"], line["attempt"]) for line in lines] == [
        ("retrying", "no answer", 1),
        ("retrying", "no answer", 2),
    ]
    assert "secret" not in str(lines)
