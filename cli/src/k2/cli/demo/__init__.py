"""`make demo`: three feeds, two accidents, and the proof that nothing was lost."""
