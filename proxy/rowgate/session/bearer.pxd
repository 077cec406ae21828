cimport cython
from rowgate.session.conversation cimport Conversation
from rowgate.session.replies cimport ReplyQueue

cdef int BIND_REPLY, CLOSE_REPLY, EXECUTE_REPLY, OWN, PARSE_REPLY, SYNC_REPLY
cdef int FAILED_TRANSACTION, IDLE

@cython.final
cdef class Bearers:
    cdef public Conversation conversation
    cdef bytes _own
    cdef bytes _asked
    cdef bint _unwanted
    cdef object _abandoned
    cdef bint _told
    cdef dict _outcomes

    cdef _over(self, refusal)
    cdef _named(self, assignment, double now, bint block)
    cdef _whose(self, bytes token)
    cdef _change(self, assignment, whom)
    cdef _value(self, assignment, whom, bint block)
    cdef bint _for_transaction(self, assignment) except -1
    cdef _unspeakable(self, assignments, values)
