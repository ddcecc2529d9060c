"""Kubernetes operator for ExchangeFeeds. Decisions are pure functions of values; I/O is in `api` and `handlers`."""
