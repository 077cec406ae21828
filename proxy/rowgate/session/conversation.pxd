cimport cython
from rowgate.metering.charge cimport Charge
from rowgate.metering.plan cimport Plan
from rowgate.session.execution cimport Execution
from rowgate.session.replies cimport Reply, ReplyQueue
from rowgate.session.setting cimport Setting
from rowgate.sql.statement cimport Statement

cdef int IDLE, BIND_REPLY

cdef class Services:
    cdef public object reader
    cdef public object journal
    cdef public object journal_errors
    cdef public object refill
    cdef public object define_rule
    cdef public object counted_entities
    cdef public object changes
    cdef public object tokens
    cdef public object seal
    cdef public object wall
    cdef public bint trusted

@cython.final
cdef class Conversation:
    cdef public Services services
    cdef public object judge
    cdef public dict plans
    cdef public bint watching
    cdef public object definition
    cdef public str nonce
    cdef public list to_client
    cdef public list to_server
    cdef public list commands
    cdef public ReplyQueue replies
    cdef public dict statements
    cdef public dict portals
    cdef public dict descriptions
    cdef public int transaction
    cdef public bint maybe_in_transaction
    cdef public bint skipping
    cdef public bint group_open
    cdef public bint group_writes
    cdef public bint group_in_transaction
    cdef public long open_executes
    cdef public long long group
    cdef public dict statement_groups
    cdef public bint leftover
    cdef public bint unsettled
    cdef public bint defining
    cdef public bint exclusive
    cdef public bint takes_copy
    cdef public bint copying
    cdef public bint midway
    cdef public bytes owed
    cdef public long long client_lacks
    cdef public object steps
    cdef public object several
    cdef public bytes completion
    cdef public Execution cutting
    cdef public bint cancelling
    cdef public bint ended
    cdef public bint farewell
    cdef public str client_encoding
    cdef public bint conforming_strings
    cdef public bint plain
    cdef public long denials
    cdef public long long rows
    cdef public long long octets
    cdef public Charge ambient
    cdef public object terms
    cdef public object end_user
    cdef public Setting setting
    cdef public Statement control
    cdef public long long control_group
    cdef public bint changing
    cdef public double moment
    cdef public object installing
    cdef public bint asking
    cdef public bint ask_failed
    cdef public bytes answer
    cdef public object server_session

    @cython.locals(plan=Plan)
    cpdef Plan plan_of(self, Statement statement)
    cpdef bint blocked(self)
    cpdef bint must_wait_for_group(self)
    cpdef undo(self, list dropped)
    cdef bint is_uncertain(self, long long group) except -1
    cpdef forget_unnamed(self)
    cpdef identify(self, double now)
    cdef _named(self)
    cpdef follow(self, Execution execution)
    cpdef follow_completed(self, Execution execution)
    cpdef follow_answered(self)
    cpdef follow_error(self)
    cpdef interpose(self, bytes message)
    cpdef group_ended(self)
