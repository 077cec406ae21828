cimport cython

from rowgate.network.tls cimport Tls

cdef int DIRECT
cdef object send

@cython.final
cdef class Outlet:
    cdef object _transport
    cdef int _descriptor
    cdef readonly Tls tls

    @cython.locals(chunk=bytes, size=cython.longlong)
    cpdef send(self, list chunks)
    cpdef flush(self)
    cpdef close(self)
    @cython.locals(sent=cython.longlong)
    cdef _put(self, bytes chunk)
