"""Say what is wrong with a statement: where, what was meant, and what to do instead."""
