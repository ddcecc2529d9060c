"""Compute results ahead of their clients, keep what is unread, and send it."""
