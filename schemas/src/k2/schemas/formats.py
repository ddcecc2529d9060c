"""The number of the stored format: of topics, tables and checkpoints.

Raise it with a change that older rows or records cannot be read through: a type, a scale, how ids are computed. What
another format wrote is refused, never read wrongly. Format 1 had decimal(18,8) and random ids, and carried no number.
"""

from typing import Final

FORMAT: Final = 2
TABLE_PROPERTY: Final = "k2.format"


class OtherFormat(RuntimeError):
    """A topic, table or checkpoint was written in another format. The message says what to do."""

    def __init__(self, what: str, actual: int | str) -> None:
        super().__init__(
            f"{what} has format {actual}, and this version of K2 reads and writes format {FORMAT}; start with an empty "
            f"data folder (k2 up --data DIR), or in a cluster follow 'Change of the stored format' in "
            f"docs/how-to/upgrade.md; the version of K2 that wrote it can still read it"
        )
