cimport cython
from rowgate.session.execution cimport Execution, Portal

cdef int SYNC_REPLY, QUERY_REPLY, CALL_REPLY, COPY_END

@cython.final
@cython.freelist(128)
cdef class Reply:
    cdef public int kind
    cdef public int manner
    cdef public Execution execution
    cdef public Portal portal
    cdef public object denial
    cdef public object undo
    cdef public Reply following

@cython.final
cdef class ReplyQueue:
    cdef public Reply head
    cdef public Reply tail
    cdef public long groups
    cdef public long length
    cdef public long ignored
    cdef public long surplus

    @cython.locals(reply=Reply)
    cpdef Reply push(self, int kind, int manner)
    @cython.locals(reply=Reply)
    cpdef Reply pop(self)
    @cython.locals(reply=Reply)
    cpdef list drop_to_sync(self)
    @cython.locals(reply=Reply, previous=Reply)
    cpdef bint drop_ignored_syncs(self)
    cpdef failed(self)
    @cython.locals(reply=Reply)
    cpdef bint is_surplus(self)
