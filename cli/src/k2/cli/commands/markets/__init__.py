"""Commands that show a market: what exchanges list, and order books."""
