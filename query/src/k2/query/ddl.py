"""Parse the Spark DDL types in which the specs of tables give their columns."""

import re
from typing import Final

DECIMAL: Final = re.compile(r"decimal\((\d+),\s*(\d+)\)")


def split(inner: str) -> list[str]:
    """Split `string,struct<a:int,b:int>` at its outer commas."""
    parts, depth, begin = [], 0, 0
    for position, char in enumerate(inner):
        depth += (char in "<(") - (char in ">)")
        if char == "," and depth == 0:
            parts.append(inner[begin:position])
            begin = position + 1
    return [*parts, inner[begin:]]
