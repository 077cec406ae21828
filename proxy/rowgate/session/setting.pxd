cimport cython

cdef int FAILED_TRANSACTION, IDLE

@cython.final
cdef class Levels:
    cdef public object base
    cdef public bint block
    cdef public object current
    cdef public bint failed
    cdef public object kept
    cdef public list levels

    @cython.locals(other=Levels)
    cpdef Levels copy(self)
    cpdef apply(self, change)
    cpdef begin(self)
    cpdef end_implicit(self)
    cdef _open(self)
    cdef _set(self, change)
    cpdef bint names_anybody(self) except -1

@cython.final
cdef class Setting:
    cdef public Levels ahead
    cdef public Levels settled
    cdef object _finish

    cpdef sent(self, changes)
    cpdef completed(self, part)
    cpdef group_ended(self)
    cpdef failed(self)
    cpdef ready(self, int status)
    cpdef all_answered(self)
    cpdef bint names_anybody(self) except -1
