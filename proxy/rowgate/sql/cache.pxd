from rowgate.sql.statement cimport Statement

cdef class Cache:
    cdef Py_ssize_t _half
    cdef Py_ssize_t _half_octets
    cdef Py_ssize_t _octets
    cdef dict _young
    cdef dict _old

    cpdef Statement get(self, bytes key)
    cpdef put(self, bytes key, Statement statement)
    cpdef clear(self)
