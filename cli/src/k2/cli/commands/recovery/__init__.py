"""Commands that get a platform well again: recovery, dead letters, backups, rebuilds."""
