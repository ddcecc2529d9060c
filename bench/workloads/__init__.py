"""Data, queries and helper processes of the benchmarks."""
