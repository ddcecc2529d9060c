"""Quotes compared with the order books that the messages in Gold give."""
