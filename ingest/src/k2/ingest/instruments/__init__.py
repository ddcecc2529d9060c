"""The instrument lists of exchanges: read over REST."""
