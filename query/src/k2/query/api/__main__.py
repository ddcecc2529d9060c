"""`python -m k2.query.api`: the container's entry point, told everything by its environment.

Exit codes: 0 stopped, 2 bad input or an address that cannot be listened on.
"""

import logging
import sys

from k2.query.api.server import server
from k2.query.api.settings import ApiSettings
from k2.schemas import logs
from k2.schemas.platform import Platform
from k2.schemas.problems import InvalidSpec


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
    logs.get("api").info("serving", host=settings.host, port=settings.port)
    try:
        serving.run()
    except SystemExit:  # uvicorn's word for an address that it cannot have; it has told why
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
