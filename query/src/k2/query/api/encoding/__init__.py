"""Encoding of query results: JSON, CSV, Parquet and Arrow, cursors, and OpenAPI models."""
