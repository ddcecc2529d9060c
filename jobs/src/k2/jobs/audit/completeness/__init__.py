"""Completeness: whether each id that an exchange issued is in Gold."""
