cimport cython

cdef class Unverified:
    cdef readonly object header
    cdef readonly str issuer
    cdef readonly dict claims
    cdef readonly bytes signed
    cdef readonly bytes signature

cdef class TokenParser:
    cdef dict _headers

    @cython.locals(octets=bytes, translated=bytes, parts=list, header=bytes, payload=bytes, signature=bytes, claims=dict, signed=bytes)
    cpdef Unverified parse(self, str token)

    cdef object _read_header(self, bytes encoded)

@cython.locals(claims=dict, token_id=str, name=str, expires=object, issued=object, begins=object)
cpdef object judge_claims(Unverified token, object issuer, str key, double now)

cdef bytes _decoded(bytes part)
cdef object _parsed(str text)
cdef dict _members(bytes octets, str what)
cdef object _date(dict claims, str claim)
cdef bint _is_for(tuple ours, object audience) except -1
cdef object _name(dict claims, str claim)
