cimport cython

@cython.final
cdef class Plan:
    cdef public object policy
    cdef public object denial
    cdef public object would
    cdef public tuple row_accounts
    cdef public tuple entity_accounts
    cdef public tuple octet_accounts
    cdef public tuple statement_accounts
    cdef public long long max_rows
    cdef public long long max_octets
    cdef public str caps_rule
    cdef public bint caps_enforced
    cdef public str hint
    cdef public bint enforced
    cdef public bint entities_enforced
    cdef public bint undeniable
    cdef public bint provisional

    @cython.locals(plan=Plan)
    cpdef Plan copy(self)
