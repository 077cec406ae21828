cimport cython

ctypedef const unsigned char* p_uchar

cdef long long HEADER_SIZE, LENGTH_SIZE, MAX_LENGTH

@cython.final
cdef class RowScanner:
    cdef public long long position
    cdef public long long rows
    cdef public long long octets
    cdef public long long body_missing

    @cython.locals(p=p_uchar, end=cython.longlong, rows=cython.longlong, octets=cython.longlong,
                   missing=cython.longlong, length=cython.longlong, cost=cython.longlong)
    cpdef run(self, bytes data, long long position, int kind, long long room_rows, long long room_octets)
