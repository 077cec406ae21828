cimport cython

cdef int DIRECT
cdef object os_write

@cython.final
cdef class Outlet:
    cdef object _transport
    cdef int _descriptor

    @cython.locals(chunk=bytes)
    cpdef send(self, list chunks)
    @cython.locals(sent=cython.longlong)
    cdef _direct(self, bytes chunk)
