"""What can go wrong with the journal, as errors an operator can act on."""


class JournalError(Exception):
    """The journal cannot be used; the message says where, why and what to do."""


class JournalFull(JournalError):  # noqa: N818  the name of a condition, shared with the owner's failure posture
    """No segment can be had (disk or quota full). The owner decides: refuse statements, or go on where grace allows."""
