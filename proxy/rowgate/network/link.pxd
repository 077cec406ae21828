cimport cython
from rowgate.network.outlet cimport Outlet
from rowgate.network.tls cimport Tls
from rowgate.session.client_stream cimport ClientStream
from rowgate.session.server_stream cimport ServerStream
from rowgate.session.session cimport Session

cdef object monotonic

@cython.final
cdef class Link:
    cdef public object owner
    cdef public object loop
    cdef public Session session
    cdef public object reception
    cdef public object admission
    cdef public object client
    cdef public object server
    cdef public object peer
    cdef public object source
    cdef public object visit
    cdef public double active
    cdef public bint authenticated
    cdef bytes _early
    cdef public bint client_stalled
    cdef public bint server_stalled
    cdef public bint client_paused
    cdef public bint server_paused
    cdef public bint closed
    cdef Outlet _to_client
    cdef Outlet _to_server
    cdef Tls _client_tls
    cdef Tls _server_tls
    cdef object _timer
    cdef double _timer_at

    cpdef client_data(self, bytes data)
    cpdef server_data(self, bytes data)
    @cython.locals(session=Session)
    cpdef pump(self)
    cdef bint _is_slow(self)
    cdef _follow(self, Session session)
    cdef _set_timer(self, double at)
    cdef _carry_out(self, Session session)
