"""What can go wrong with a comparison, in words for the person who asked for it."""


class BenchError(Exception):
    """The comparison cannot be made; the message says what, where, and what to do."""
