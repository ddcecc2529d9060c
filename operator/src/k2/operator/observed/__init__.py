"""The observed state of a feed, and the conditions and status derived from it."""
