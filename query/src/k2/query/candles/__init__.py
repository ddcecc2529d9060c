"""Bars of trades: by time in any zone, by what was traded, filled, and judged by the ledger."""
