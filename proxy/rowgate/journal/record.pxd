ctypedef unsigned long long u64

cdef u64 MIX_FACTOR
cdef u64 WORD_MASK
cdef u64 HALF_MASK

cdef class Definition:
    cdef readonly int kind
    cdef readonly bytes payload
    cdef public u64 offset
    cdef public object token

cpdef u64 mix(u64 state, u64 word)
cpdef u64 check_place(u64 sequence, u64 offset)
cpdef u64 check_definition(u64 place, u64 head, u64 crc)
cpdef u64 check_opening(u64 place, u64 references, u64 policy, u64 started)
cpdef u64 check_closing(u64 opening, u64 outcome, u64 rows, u64 octets, u64 beyond, u64 rule)
