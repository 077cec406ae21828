"""File descriptors: newcomers are refused, in words, while there are still some for those who are served."""

import resource
from typing import Any, Final

# Descriptors kept free for whoever is served already: server connections of clients just let in, cancels, the ledger's
# checkpoint, the journal's next segment, the catalogue.
RESERVE: Final = 64


def are_scarce(transport: Any) -> bool:
    """Return whether a connection just accepted is among the last that this process may open.

    The kernel gives the lowest number that is free (accept(2)): if this one is near the limit, all below it are taken.
    Without such a margin the event loop accepts, and closes at once without a word, whatever comes.
    """
    socket = transport.get_extra_info("socket")
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return socket is not None and soft != resource.RLIM_INFINITY and socket.fileno() >= soft - RESERVE
