"""Kraken spot, websocket v2 and v1."""
