"""`python -m k2.query.api.openapi`: the API's description, as OpenAPI 3.1."""

import json
import sys
from typing import Any

from k2.common.platform import Platform
from k2.query.api.app import create
from k2.query.api.settings import ApiSettings


def document() -> dict[str, Any]:
    """The description. No platform is needed."""
    found: dict[str, Any] = create(ApiSettings(), Platform()).openapi()
    return found


if __name__ == "__main__":
    sys.stdout.write(f"{json.dumps(document(), indent=1, sort_keys=True)}\n")
