"""The ways in which a question cannot be answered."""


class BadQuery(ValueError):
    """The question is wrong; the message is one line that says what to change."""


class Unavailable(RuntimeError):
    """The catalog or the files cannot be reached; the message is one line that says which."""


class NotYet(Unavailable):
    """All can be reached, and nothing was ever written."""
