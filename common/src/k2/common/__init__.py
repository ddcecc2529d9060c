"""Shared infrastructure of K2 processes: configuration, logging, input validation, schema registry client."""
