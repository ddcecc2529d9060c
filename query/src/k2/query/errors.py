"""The ways in which a question cannot be answered."""


class BadQuery(ValueError):
    """The question is wrong; the message is one line that says what to change."""


class TooLarge(BadQuery):
    """The question is fine, and its answer more than this machine may take."""


class Unavailable(RuntimeError):
    """The catalog or the files cannot be reached; the message is one line that says which."""


class NotYet(Unavailable):
    """All can be reached, and nothing was ever written."""
