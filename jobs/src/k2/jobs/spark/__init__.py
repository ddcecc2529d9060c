"""Spark: session, tables, file systems, progress listener and JVM."""
