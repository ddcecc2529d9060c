"""Rebuild of Silver and Gold from Bronze, compared with the tables."""
