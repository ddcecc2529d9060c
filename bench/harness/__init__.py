"""Processes, services and reports that the benchmarks share."""
