cimport cython
from rowgate.metering.charge cimport Charge
from rowgate.metering.plan cimport Plan
from rowgate.session.conversation cimport Conversation
from rowgate.session.execution cimport Execution, Portal
from rowgate.sql.statement cimport Statement

cdef int IDLE, START, WAIT, REFUSE, DENIED

@cython.final
cdef class Starter:
    cdef public Conversation conversation
    cdef public double retry_at
    cdef public double waiting_since
    cdef public object refusal
    cdef public object abandoned
    cdef double _slow_until

    cpdef bint holds(self, double now)
    cpdef Execution execution(self, Statement statement, Plan plan, Portal portal)
    @cython.locals(charge=Charge, statement=Statement, need=cython.int, count=cython.int)
    cpdef int may_start(self, Execution execution, double now) except -1
    @cython.locals(conversation=Conversation, statement=Statement)
    cpdef started(self, Execution execution)
    @cython.locals(conversation=Conversation)
    cdef _open(self, Execution execution)
    @cython.locals(conversation=Conversation)
    cpdef denied(self, Execution execution, object refusal)
    @cython.locals(conversation=Conversation)
    cpdef bint slow_down(self, double now) except -1
