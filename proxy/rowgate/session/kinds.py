"""Kinds of expected replies, and whether one may start: integers that the compiled twins declare as C integers."""

from typing import Final

PARSE_REPLY: Final = 1
BIND_REPLY: Final = 2
CLOSE_REPLY: Final = 3
DESCRIBE_REPLY: Final = 4
EXECUTE_REPLY: Final = 5
SYNC_REPLY: Final = 6
QUERY_REPLY: Final = 7
CALL_REPLY: Final = 8
COPY_END: Final = (
    9  # not a reply: marks where the client ended a COPY FROM, so that Syncs before it are known as ignored
)

# A reply that is the client's, one of our own that is swallowed, or one whose NoData alone is (a lone one's Describe).
PASS: Final = 0
SWALLOW: Final = 1
SWALLOW_NO_DATA: Final = 2
# Of a text that runs in steps: a step's reply without its ReadyForQuery; the last one's, whose CommandComplete waits
# for the commit as well; the COMMIT (or ROLLBACK) that finishes the text, of which the client hears only how it went.
STEP: Final = 3
LAST_STEP: Final = 4
FINISH: Final = 5
# Of what the proxy itself asks the server, or sets there.
OWN: Final = 6

# Whether an execution may start.
START: Final = 0
WAIT: Final = 1
REFUSE: Final = 2
