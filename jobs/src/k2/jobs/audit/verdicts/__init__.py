"""Verdicts on the hours of symbols: what the layers held when an hour was judged, chained and never rewritten."""
