"""send(2) as one C call: no thread state given up for a call that never blocks. Its twin is ``os.write`` in outlet.py."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

cdef extern from "sys/socket.h" nogil:
    ssize_t c_send "send"(int descriptor, const void* octets, size_t length, int flags)
    int MSG_DONTWAIT
    int MSG_NOSIGNAL


def send(int descriptor, bytes chunk not None):
    """Return how much of ``chunk`` the kernel has taken; -1 when none of it (full, or broken)."""
    return c_send(descriptor, PyBytes_AS_STRING(chunk), PyBytes_GET_SIZE(chunk), MSG_DONTWAIT | MSG_NOSIGNAL)
