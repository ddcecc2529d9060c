"""`python -m k2.query.api.openapi`: prints the OpenAPI 3.1 document of the API."""

import json
import sys
from typing import Any

from k2.common.platform import Platform
from k2.query.api.app import create
from k2.query.api.settings import ApiSettings


def document() -> dict[str, Any]:
    """Return the OpenAPI document. Needs no platform."""
    openapi: dict[str, Any] = create(ApiSettings(), Platform()).openapi()
    return openapi


if __name__ == "__main__":
    sys.stdout.write(f"{json.dumps(document(), indent=1, sort_keys=True)}\n")
