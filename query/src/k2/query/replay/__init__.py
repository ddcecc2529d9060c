"""Replay the trades of a time range from Gold or Bronze, with their message ids."""

from enum import StrEnum


class Layer(StrEnum):
    """The layer that the trades are read from."""

    GOLD = "gold"
    BRONZE = "bronze"
