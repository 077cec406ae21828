cimport cython

cdef Py_ssize_t PIECE
cdef object RECORD

@cython.final
cdef class Tls:
    cdef readonly bint established
    cdef readonly bint closed
    cdef object _tls
    cdef object _incoming
    cdef object _decrypt
    cdef object _encrypt
    cdef object _drain
    cdef list _sealed
    cdef bint _failed

    @cython.locals(length=Py_ssize_t, at=Py_ssize_t)
    cpdef bytes receive(self, bytes data)
    @cython.locals(text=bytes, part=bytes, more=list)
    cdef bytes _receive(self, piece)
    @cython.locals(length=Py_ssize_t)
    cpdef send(self, bytes data)
    @cython.locals(at=Py_ssize_t)
    cdef _send_pieces(self, bytes data)
    cpdef bytes take(self)
    cdef bint _shake(self) except -1
