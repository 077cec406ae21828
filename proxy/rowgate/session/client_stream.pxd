cimport cython
from rowgate.metering.charge cimport Charge
from rowgate.metering.plan cimport Plan
from rowgate.session.conversation cimport Conversation
from rowgate.session.execution cimport Execution, Portal
from rowgate.session.starter cimport Starter
from rowgate.session.replies cimport Reply, ReplyQueue
from rowgate.sql.statement cimport Part, Statement

ctypedef const unsigned char* p_uchar

cdef int BIND_REPLY, CALL_REPLY, CLOSE_REPLY, COPY_END, DESCRIBE_REPLY, EXECUTE_REPLY, PARSE_REPLY, QUERY_REPLY, SYNC_REPLY
cdef int LAST_STEP, PASS, SWALLOW, SWALLOW_NO_DATA
cdef int BIND, CLOSE, COPY_DATA, COPY_DONE, COPY_FAIL, DESCRIBE, EXECUTE, FLUSH, FUNCTION_CALL, PARSE, QUERY, SYNC
cdef int TERMINATE, IDLE, OF_PORTAL
cdef int FORWARD, REPLACED, GATED
cdef int WAIT, REFUSE
cdef long long HEADER_SIZE, MAX_MESSAGE, EXECUTE_TAIL

@cython.final
cdef class ClientStream:
    cdef public Conversation conversation
    cdef public bint gated
    cdef public Starter starter
    cdef public object bearers
    cdef object _stepper
    cdef public long long buffered
    cdef bytearray _kept
    cdef long long _needed
    cdef long long _pass_on
    cdef long long _drop
    cdef bytes _data
    cdef long long _start
    cdef object _lone
    cdef bint _flushed

    cpdef feed(self, bytes data, double now)
    @cython.locals(p=p_uchar, end=cython.longlong, position=cython.longlong, kind=cython.int, length=cython.longlong,
                   whole=cython.longlong, outcome=cython.int)
    cdef _messages(self, bytes data, double now)
    @cython.locals(position=cython.longlong)
    cdef Py_ssize_t _unfinished(self, long long end) except -1
    @cython.locals(available=cython.longlong, needed=cython.longlong, limit=cython.longlong)
    cdef bint _needs_more(self, bytes data, long long position, int kind, long long whole) except -1
    @cython.locals(middle=cython.longlong, last=cython.longlong)
    cdef bint _needs_all(self, bytes data, long long position, long long whole) except -1
    @cython.locals(conversation=Conversation)
    cdef int _message(self, int kind, long long position, long long whole, double now) except -1

    @cython.locals(conversation=Conversation, text=bytes, statement=Statement, plan=Plan, execution=Execution,
                   outcome=cython.int, reply=Reply)
    cdef int _query(self, long long position, long long whole, double now) except -1
    @cython.locals(conversation=Conversation, plan=Plan, execution=Execution, outcome=cython.int)
    cdef int _query_carrying(self, long long position, bytes text, Statement statement, double now) except -1
    @cython.locals(conversation=Conversation, statement=Statement, several=cython.bint)
    cdef int _query_divided(self, long long position, bytes text, Execution execution, double now) except -1
    cdef Statement _read_part(self, bytes text, Part part)
    @cython.locals(conversation=Conversation)
    cdef bint _must_wait_for_text(self, bytes data, long long position, double now) except -1
    cdef bint _go_on(self, double now) except -1
    @cython.locals(conversation=Conversation)
    cdef bint _run_lone(self, object lone, double now) except -1
    @cython.locals(conversation=Conversation, statement=Statement, portal=Portal, execution=Execution, outcome=cython.int,
                   replies=ReplyQueue)
    cdef bint _send_lone(self, object lone, double now) except -1

    @cython.locals(conversation=Conversation, body=cython.longlong, end=cython.longlong, middle=cython.longlong,
                   text_end=cython.longlong, name=bytes, text=bytes, statement=Statement, execution=Execution, reply=Reply,
                   carrying=cython.bint)
    cdef int _parse(self, long long position, long long whole, double now) except -1
    @cython.locals(conversation=Conversation, body=cython.longlong, end=cython.longlong, middle=cython.longlong,
                   last=cython.longlong, name=bytes, prepared=bytes, portal=Portal, found=Statement)
    cdef int _bind(self, long long position, long long whole) except -1
    @cython.locals(conversation=Conversation, reply=Reply, portal=Portal)
    cdef int _bind_bearing(self, long long position, long long whole, long long start, bytes name, object bearing) except -1
    @cython.locals(conversation=Conversation)
    cdef int _parse_carrying(self, long long position, bytes name, bytes text, bytes tail) except -1
    @cython.locals(conversation=Conversation, name=bytes, reply=Reply, portal=Portal)
    cdef int _describe(self, long long position, long long whole, double now) except -1
    @cython.locals(conversation=Conversation, statement=Statement, plan=Plan)
    cdef _learn(self, Reply reply, bytes name)
    @cython.locals(ambient=Charge)
    cdef object _may_describe(self, double now)
    cdef int _deny_describe(self, long long position, object refusal, double now) except -1
    @cython.locals(conversation=Conversation, name=bytes, reply=Reply)
    cdef int _close(self, long long position, long long whole) except -1
    @cython.locals(conversation=Conversation, end=cython.longlong, name=bytes, portal=Portal, statement=Statement,
                   plan=Plan, execution=Execution, outcome=cython.int)
    cdef int _execute(self, long long position, long long whole, double now) except -1
    @cython.locals(statement=Statement)
    cdef bint _must_describe(self, Portal portal, Plan plan) except -1
    @cython.locals(conversation=Conversation)
    cdef int _sync(self, long long position) except -1
    @cython.locals(conversation=Conversation, plan=Plan, execution=Execution, outcome=cython.int)
    cdef int _function_call(self, long long position, double now) except -1

    @cython.locals(conversation=Conversation)
    cdef int _deny_query(self, long long position, Execution execution, object refusal, double now) except -1
    cdef int _skipped(self, long long position, object refusal) except -1

    @cython.locals(conversation=Conversation)
    cdef bint _delicate(self, long long position, bytes text) except -1
    cdef bint _plain(self, bytes text) except -1
    cpdef abandon(self, object refusal, double now)
    cdef int _gate_flushed(self, long long position) except -1
    @cython.locals(text=bytes)
    cdef bytes _text(self, long long start, long long end)
    @cython.locals(whole=cython.bint)
    cdef _forward_to(self, long long position)
    cdef _keep(self, bytes data, long long position, long long needed)
    cdef _violation(self, long long position, str what)
    cdef _fatal(self, long long position, str sqlstate, str what)

@cython.locals(p=p_uchar)
cdef Py_ssize_t _zero_at(bytes data, Py_ssize_t start, Py_ssize_t end) noexcept
@cython.locals(middle=cython.Py_ssize_t, last=cython.Py_ssize_t)
cdef Py_ssize_t _names_end(bytes data, Py_ssize_t start, Py_ssize_t end) except -1
