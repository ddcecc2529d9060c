"""Benchmarks of K2 and its baselines on one machine: `python -m bench`."""
