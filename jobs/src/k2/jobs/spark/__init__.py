"""Spark itself: session, tables, file systems, progress listener, JVM."""
