cimport cython
from rowgate.metering.charge cimport Charge
from rowgate.session.conversation cimport Conversation, Services
from rowgate.session.execution cimport Execution, Portal
from rowgate.session.replies cimport Reply, ReplyQueue
from rowgate.wire.rows cimport RowScanner

ctypedef const unsigned char* p_uchar

cdef int CALL_REPLY, COPY_END, DESCRIBE_REPLY, EXECUTE_REPLY, PARSE_REPLY, QUERY_REPLY, SYNC_REPLY
cdef int FINISH, LAST_STEP, OWN, PASS, STEP, SWALLOW, SWALLOW_NO_DATA
cdef int COPY_DATA, DATA_ROW, ERROR_RESPONSE, FUNCTION_CALL_RESPONSE, IDLE, NO_DATA, NOTICE_RESPONSE, NOTIFICATION_RESPONSE, PARAMETER_STATUS
cdef int ANSWER, COMPLETE, CONTINUE, DESCRIBE, MEASURE, READY, RETURN, STRIDE, TAKE_COPY, VIOLATE
cdef int PARAMETER_DESCRIPTION, READY_FOR_QUERY, ROW_DESCRIPTION
cdef bytes TABLE
cdef int FORWARD, DROP, PAUSE
cdef int ALLOWED, CUT, FAILED, THROTTLED, WOULD_CUT, WOULD_DENY
cdef long long HEADER_SIZE, MAX_MESSAGE, NO_BOUND, READY_SIZE

@cython.final
cdef class ServerStream:
    cdef public Conversation conversation
    cdef public double retry_at
    cdef public bint held
    cdef bytearray _kept
    cdef long long _needed
    cdef long long _drop
    cdef bytes _data
    cdef long long _start
    cdef RowScanner _scanner

    cpdef feed(self, bytes data, double now)
    @cython.locals(p=p_uchar, end=cython.longlong, position=cython.longlong, kind=cython.int, length=cython.longlong,
                   whole=cython.longlong, missing=cython.longlong, outcome=cython.int)
    cdef _messages(self, bytes data, double now)
    @cython.locals(position=cython.longlong)
    cdef Py_ssize_t _unfinished(self, long long end) except -1
    cdef _hold(self, long long position)
    @cython.locals(conversation=Conversation, reply=Reply, execution=Execution, charge=Charge, scanner=RowScanner,
                   length=cython.longlong, outcome=cython.int, p=p_uchar)
    cdef Py_ssize_t _rows(self, bytes data, long long position, int kind, double now) except -2
    @cython.locals(whole=cython.longlong)
    cdef Py_ssize_t _own_row(self, bytes data, long long position) except -2
    @cython.locals(scanner=RowScanner)
    cdef Py_ssize_t _drop_rows(self, bytes data, long long position, int kind) except -2
    cdef _count_entities(self, Execution execution)
    @cython.locals(conversation=Conversation, charge=Charge)
    cdef int _pay(self, Execution execution, long long rows, long long octets, long long position, double now) except -1
    @cython.locals(conversation=Conversation, replies=ReplyQueue, alone=cython.bint)
    cdef _cut(self, Execution execution, object refusal, long long position)

    @cython.locals(conversation=Conversation, reply=Reply, dropping=cython.bint, action=cython.int, outcome=cython.int)
    cdef int _message(self, int kind, long long position, long long whole, double now) except -1
    @cython.locals(conversation=Conversation, replies=ReplyQueue, ended=cython.long)
    cdef _take_copy(self, Reply reply)
    @cython.locals(portal=Portal, execution=Execution)
    cdef _described(self, Reply reply, long long position, long long whole)
    cdef tuple _counted(self, tuple accounts, long long position, long long whole)
    @cython.locals(conversation=Conversation, execution=Execution, portal=Portal, dropping=cython.bint)
    cdef int _completed(self, Reply reply, long long position, long long whole) except -1
    cdef int _completed_ours(self, Reply reply, long long position) except -1
    @cython.locals(execution=Execution, outcome=cython.int)
    cdef int _returned(self, Reply reply, long long position, long long whole, double now) except -1
    @cython.locals(charge=Charge, outcome=cython.int)
    cdef int _spend(self, Execution execution, long long rows, long long octets, long long position, double now) except -1
    @cython.locals(conversation=Conversation, reply=Reply, execution=Execution, charge=Charge)
    cdef int _aside(self, int kind, long long position, long long whole, double now) except -1
    cdef _tell_completion(self, long long position)
    @cython.locals(message=bytes)
    cdef bint _is_kept(self, long long position, long long whole) except -1
    cdef bint _is_muted(self, long long position, long long whole) except -1
    cdef int _indispensable(self, long long position, long long whole, long long free) except -1
    @cython.locals(ambient=Charge)
    cdef int _describes(self, Reply reply, long long position, long long whole, double now) except -1
    @cython.locals(ambient=Charge)
    cpdef bint welcome(self, long long octets, double now)
    cdef bint _affords(self, Charge charge, long long octets, double now) except -1
    cdef _parameter(self, long long position, long long whole)
    @cython.locals(conversation=Conversation, replies=ReplyQueue, reply=Reply, cutting=Execution, execution=Execution,
                   charge=Charge, outcome=cython.int, each=Reply)
    cdef int _error(self, long long position, long long whole, double now) except -1
    @cython.locals(conversation=Conversation, replies=ReplyQueue, cutting=Execution, status=cython.int, outcome=cython.int)
    cdef int _ready(self, Reply reply, long long position, long long whole) except -1
    @cython.locals(conversation=Conversation, status=cython.int)
    cdef int _ready_again(self, long long position, long long whole) except -1
    @cython.locals(conversation=Conversation)
    cdef _all_answered(self, int status)
    cdef object _several(self, Reply reply, long long position, long long whole)
    cdef bint _is_told(self, Reply reply) except -1
    cdef int _own_answered(self, int status, long long position) except -1
    cdef int _step_answered(self, int manner, int status, long long position) except -1
    @cython.locals(replies=ReplyQueue)
    cdef _pop(self)
    @cython.locals(charge=Charge, services=Services)
    cdef _close(self, Execution execution, int verdict)
    @cython.locals(reply=Reply)
    cpdef abandon(self, object refusal, double now)
    @cython.locals(reply=Reply)
    cpdef close(self)
    cdef _say(self, long long position, object refusal)
    cdef _withhold(self, long long position, long long whole)
    @cython.locals(whole=cython.bint)
    cdef _forward_to(self, long long position)
    cdef int _violation(self, long long position, str what) except -1
    @cython.locals(conversation=Conversation)
    cdef int _fatal(self, long long position, str sqlstate, str what) except -1

cdef bint _is_fatal(bytes data, long long position, long long whole) except -1
cdef bint _read_whole(int kind)
