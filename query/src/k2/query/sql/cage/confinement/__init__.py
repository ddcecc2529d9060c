"""Take from a process, for good, what the statement of a user must not have."""
