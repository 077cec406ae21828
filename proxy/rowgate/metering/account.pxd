cimport cython

@cython.final
cdef class Account:
    cdef public object limit
    cdef public bytes scope
    cdef public int unit
    cdef public str described
    cdef public object values
    cdef public bytes member
    cdef public bint enforced
    cdef public long long remaining
    cdef public long long within
    cdef public long long leased
    cdef public double expires
    cdef public double lease_end
    cdef public double last_used
    cdef public object verdict

    cpdef long long room(self, double now)
    cpdef spend(self, long long amount)
