cimport cython
from rowgate.metering.account cimport Account
from rowgate.metering.plan cimport Plan

cdef long long FREE_OF_BOUNDS

@cython.final
@cython.freelist(64)
cdef class Charge:
    cdef public Plan plan
    cdef public tuple row_accounts
    cdef public tuple octet_accounts
    cdef public long long rows
    cdef public long long octets
    cdef public long long rows_left
    cdef public long long octets_left
    cdef public long long room_rows
    cdef public long long room_octets
    cdef public long long beyond
    cdef public object would
    cdef public bint would_deny

    cpdef begin_part(self, long long rows, long long octets)
    cpdef count_entity(self, tuple accounts)
    @cython.locals(rows=cython.longlong, octets=cython.longlong, room=cython.longlong, account=Account)
    cpdef measure(self, double now)
    @cython.locals(account=Account)
    cpdef settle(self, long long rows, long long octets)
    cpdef over_caps(self, long long rows, long long octets)
    @cython.locals(account=Account)
    cpdef bint ready(self, double now, long count, bint rows_possible)
    @cython.locals(account=Account)
    cpdef spend_statements(self, long count)
    cpdef list lacking(self, long long statements, long long rows, long long octets, double now)
    cdef _note(self, Account account)
