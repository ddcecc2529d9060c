"""Queries as SQL and as Iceberg predicates, and the guard around user SQL."""
