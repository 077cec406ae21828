cdef class Part:
    cdef public str kind
    cdef public bint pure
    cdef public long long bound
    cdef public bint reads_nobody
    cdef public tuple tables
    cdef public frozenset actions
    cdef public Py_ssize_t location
    cdef public Py_ssize_t length
    cdef public bint settled
    cdef public str savepoint
    cdef public bint chains
    cdef public int assigns

cdef class Statement:
    cdef public str template
    cdef public tuple parts
    cdef public bint pure
    cdef public long long bound
    cdef public bint rows_possible
    cdef public bint controls_transaction
    cdef public bint ends_transaction
    cdef public bint settings_only
    cdef public bint settled
    cdef public bint defines
    cdef public frozenset actions
    cdef public tuple tables
    cdef public bint parsed
    cdef public bint reads_nobody
    cdef public int assigns
    cdef public bint by_text
    cdef public object definition
