"""Tables as they are stored: whether they are there, their files, and the log of their snapshots."""
