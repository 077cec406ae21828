from rowgate.sql.cache cimport Cache
from rowgate.sql.statement cimport Statement

cimport cython

cdef class Reader:
    cdef object _catalogue
    cdef object _names
    cdef Cache _templates
    cdef Cache _texts
    cdef object _plain

    @cython.locals(key=object, found=Statement)
    cpdef Statement read(self, bytes text, bint plain)

    cdef Statement _read_assigning(self, bytes text)
    cdef Statement _read_template(self, bytes key)
    cdef Statement _read_text(self, bytes text)
