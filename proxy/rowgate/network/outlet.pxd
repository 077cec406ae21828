cimport cython

cdef int DIRECT
cdef object send

@cython.final
cdef class Outlet:
    cdef object _transport
    cdef int _descriptor

    @cython.locals(chunk=bytes)
    cpdef send(self, list chunks)
    @cython.locals(sent=cython.longlong)
    cdef _direct(self, bytes chunk)
