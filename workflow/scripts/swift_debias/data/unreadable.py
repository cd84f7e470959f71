"""Why one image cannot be used."""


class UnreadableError(Exception):
    """One image cannot be used; the message is the reason that the index records."""
