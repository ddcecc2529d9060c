"""`python -m k2.query.api`: the container's entry point, configured by environment variables only.

Exit codes: 0 stopped, 2 invalid configuration or an address that cannot be bound.
"""

import logging
import sys

from k2.common import logs, tracing
from k2.common.platform import Platform
from k2.common.validation_errors import InvalidSpec
from k2.query.api.server import run, server
from k2.query.api.settings import ApiSettings


def main() -> int:
    """Serve until SIGTERM or SIGINT, and return the exit code."""
    try:
        platform, settings = Platform.read(), ApiSettings.read()
        logs.configure(platform.log_format, platform.log_level)
        logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
        tracing.configure("api")
        http_server = server(settings, platform)
    except InvalidSpec as error:
        print(error, file=sys.stderr)
        return 2
    return 2 * run(http_server, lambda url: logs.get("api").info("serving", url=url))


if __name__ == "__main__":
    sys.exit(main())
