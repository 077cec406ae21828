"""Every transition of a session's server side in one table: the reply due × the message that comes → what it does.

What is not in the table is a violation and ends the session: a message out of place means that client and server no
longer agree on whose answer this is. ErrorResponse, NoticeResponse, NotificationResponse and ParameterStatus may come
at any time and are not in it. Source: PostgreSQL documentation, "Message Flow".
"""

from collections.abc import Mapping
from typing import Final

from rowgate.session.kinds import (
    BIND_REPLY,
    CALL_REPLY,
    CLOSE_REPLY,
    DESCRIBE_REPLY,
    EXECUTE_REPLY,
    PARSE_REPLY,
    QUERY_REPLY,
    SYNC_REPLY,
)
from rowgate.wire.types import (
    BIND_COMPLETE,
    CLOSE_COMPLETE,
    COMMAND_COMPLETE,
    COPY_DATA,
    COPY_DONE,
    COPY_IN_RESPONSE,
    COPY_OUT_RESPONSE,
    DATA_ROW,
    EMPTY_QUERY_RESPONSE,
    FUNCTION_CALL_RESPONSE,
    NO_DATA,
    PARAMETER_DESCRIPTION,
    PARSE_COMPLETE,
    PORTAL_SUSPENDED,
    READY_FOR_QUERY,
    ROW_DESCRIPTION,
)

VIOLATE: Final = 0  # nothing of the kind is due
ANSWER: Final = 1  # the reply is complete
CONTINUE: Final = 2  # a part of the reply; more follows
DESCRIBE: Final = 3  # it says whose rows follow; a Describe is complete with it, a Query goes on
MEASURE: Final = 4  # a row: the meter's
COMPLETE: Final = 5  # a statement is complete, or its portal suspended; of a Query the next may follow
RETURN: Final = 6  # a function's result
TAKE_COPY: Final = 7  # the server reads COPY data: what the client sends until its end is no message of its own
READY: Final = 8  # the group is answered

TRANSITIONS: Final[Mapping[tuple[int, int], int]] = {
    (PARSE_REPLY, PARSE_COMPLETE): ANSWER,
    (BIND_REPLY, BIND_COMPLETE): ANSWER,
    (CLOSE_REPLY, CLOSE_COMPLETE): ANSWER,
    (DESCRIBE_REPLY, PARAMETER_DESCRIPTION): CONTINUE,
    (DESCRIBE_REPLY, ROW_DESCRIPTION): DESCRIBE,
    (DESCRIBE_REPLY, NO_DATA): ANSWER,
    (EXECUTE_REPLY, DATA_ROW): MEASURE,
    (EXECUTE_REPLY, COPY_OUT_RESPONSE): CONTINUE,
    (EXECUTE_REPLY, COPY_DATA): MEASURE,
    (EXECUTE_REPLY, COPY_DONE): CONTINUE,
    (EXECUTE_REPLY, COPY_IN_RESPONSE): TAKE_COPY,
    (EXECUTE_REPLY, COMMAND_COMPLETE): COMPLETE,
    (EXECUTE_REPLY, EMPTY_QUERY_RESPONSE): COMPLETE,
    (EXECUTE_REPLY, PORTAL_SUSPENDED): COMPLETE,
    (SYNC_REPLY, READY_FOR_QUERY): READY,
    (QUERY_REPLY, ROW_DESCRIPTION): DESCRIBE,
    (QUERY_REPLY, DATA_ROW): MEASURE,
    (QUERY_REPLY, COPY_OUT_RESPONSE): CONTINUE,
    (QUERY_REPLY, COPY_DATA): MEASURE,
    (QUERY_REPLY, COPY_DONE): CONTINUE,
    (QUERY_REPLY, COPY_IN_RESPONSE): TAKE_COPY,
    (QUERY_REPLY, COMMAND_COMPLETE): COMPLETE,
    (QUERY_REPLY, EMPTY_QUERY_RESPONSE): COMPLETE,
    (QUERY_REPLY, READY_FOR_QUERY): READY,
    (CALL_REPLY, FUNCTION_CALL_RESPONSE): RETURN,
    (CALL_REPLY, READY_FOR_QUERY): READY,
}

STRIDE: Final = 256  # one byte for each type byte there can be


def flat(transitions: Mapping[tuple[int, int], int]) -> bytes:
    """Return the table as bytes, ``reply * STRIDE + message`` its index: one memory access in the compiled twin."""
    table = bytearray(STRIDE * (max(reply for reply, _ in transitions) + 2))
    for (reply, message), action in transitions.items():
        table[reply * STRIDE + message] = action
    return bytes(table)


TABLE: Final = flat(TRANSITIONS)
