cimport cython
from rowgate.session.client_stream cimport ClientStream
from rowgate.session.conversation cimport Conversation
from rowgate.session.server_stream cimport ServerStream

@cython.final
cdef class Session:
    cdef public Conversation conversation
    cdef public ClientStream client
    cdef public ServerStream server
    cdef public list to_client
    cdef public list to_server

    cpdef from_client(self, bytes data, double now)
    cpdef from_server(self, bytes data, double now)
    cpdef resume(self, double now)
    cpdef double deadline(self)
    cpdef bint client_must_wait(self)
    cpdef bint server_must_wait(self)
    cpdef cancel_finished(self, double now)
