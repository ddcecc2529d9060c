"""The errors of a query."""


class BadQuery(ValueError):
    """The query must be changed; the message is one line that says how."""


class TooLarge(BadQuery):
    """The query is valid, but needs more memory than is allowed."""


class Unavailable(RuntimeError):
    """The catalog, files or a service cannot be reached; the message is one line that says which."""


class CatalogEmpty(Unavailable):
    """Everything can be reached, but nothing was written yet."""


class WrongFormat(Unavailable):
    """A table or topic was written in another stored format; the message is that of `OtherFormat`."""
