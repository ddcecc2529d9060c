"""K2 beside its rivals, measured in one run on one machine: `python -m bench`."""
