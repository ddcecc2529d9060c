"""Trades of a stretch of time told again, out of Gold or out of Bronze, with the ids that they have."""

from enum import StrEnum


class Layer(StrEnum):
    """Where the trades are read."""

    GOLD = "gold"
    BRONZE = "bronze"
