cimport cython

cdef class Facts:
    cdef object _names
    cdef bint _new_types
    cdef set _unknown
    cdef public set ctes
    cdef public bint has_from
    cdef public bint nobody
    cdef public bint pure
    cdef public bint single
    cdef public dict tables

    cpdef judge_relations(self)
    cpdef bint settled(self)
    cpdef tuple table_names(self)

    @cython.locals(todo=list, looks=dict, key=str, kind=type)
    cpdef walk(self, root)

    @cython.locals(name=str)
    cdef _relation(self, dict node)
