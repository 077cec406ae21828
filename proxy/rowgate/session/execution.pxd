cimport cython
from rowgate.metering.charge cimport Charge
from rowgate.metering.plan cimport Plan
from rowgate.sql.statement cimport Statement

@cython.final
@cython.freelist(64)
cdef class Portal:
    cdef public Statement statement
    cdef public long long rows
    cdef public long long octets
    cdef public bint described
    cdef public long long group
    cdef public object counted
    cdef public Portal prepared
    cdef public object bearer

@cython.final
@cython.freelist(64)
cdef class Execution:
    cdef public Statement statement
    cdef public Plan plan
    cdef public Portal portal
    cdef public Charge charge
    cdef public object entry
    cdef public bint begun
    cdef public bint metered
    cdef public bint pure
    cdef public bint outside
    cdef public object cut
    cdef public bint late
    cdef public bint throttled
    cdef public double held_since
    cdef public object changes
