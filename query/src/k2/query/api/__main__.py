"""`python -m k2.query.api`: the container's entry point, told everything by its environment.

Exit codes: 0 stopped, 2 bad input or an address that cannot be listened on.
"""

import logging
import sys

from k2.common import logs
from k2.common.platform import Platform
from k2.common.validation_errors import InvalidSpec
from k2.query.api.server import run, server
from k2.query.api.settings import ApiSettings


def main() -> int:
    """Serves until SIGTERM or SIGINT."""
    try:
        platform, settings = Platform.read(), ApiSettings.read()
        logs.configure(platform.log_format, platform.log_level)
        logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
        serving = server(settings, platform)
    except InvalidSpec as error:
        print(error, file=sys.stderr)
        return 2
    return 2 * run(serving, lambda url: logs.get("api").info("serving", url=url))


if __name__ == "__main__":
    sys.exit(main())
