"""Contracts shared by all parts of K2: records, topics, tables, feeds. Imports no engine and opens no socket."""
