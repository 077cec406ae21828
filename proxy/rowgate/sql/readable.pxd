cimport cython

@cython.locals(pieces=list, before=str, token=str, shown=str, text=str)
cpdef str readable(str key)

cdef str _shown(str token)

@cython.locals(last=Py_UCS4)
cdef bint _calls(str before, str shown) except -1
