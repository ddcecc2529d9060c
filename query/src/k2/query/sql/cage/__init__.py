"""Statements of users, each in a process of its own that can read the tables' files and do nothing else."""
