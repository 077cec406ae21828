cimport cython
from rowgate.journal.record cimport Definition, check_closing, check_opening, check_place, u64

cdef u64 OPEN_HEAD
cdef u64 CLOSED_HEAD
cdef u64 RECORD_BYTES
cdef u64 LONGEST
cdef u64 GREATEST_VERDICT

cdef class Segment:
    cdef u64[::1] words
    cdef readonly object octets
    cdef public object path
    cdef readonly object token
    cdef readonly u64 sequence
    cdef readonly u64 size
    cdef readonly u64 position
    cdef public u64 end
    cdef readonly u64 statements_end
    cdef readonly u64 live
    @cython.locals(index=u64, offset=u64, length=u64, start=u64, head=u64, crc=u64, check=u64)
    cpdef define(self, Definition definition)
    cpdef u64 room_for(self, Definition definition)

@cython.freelist(64)
cdef class Entry:
    cdef readonly Segment segment
    cdef u64 index
    cdef u64 check
    cdef double started

cdef class Journal:
    cdef object _clock
    cdef object _wall
    cdef object _monotonic
    cdef object _directory
    cdef object _trouble
    cdef list _pinned
    cdef Segment _segment
    cdef Segment _spare
    cdef double _retry_at
    cdef object _segment_bytes

    @cython.locals(segment=Segment, entry=Entry, words=u64[::1], wall=double, monotonic=double, started=u64, offset=u64,
                   references=u64, place=u64, check=u64, index=u64)
    cpdef open(self, Definition session, Definition statement, Definition policy)

    @cython.locals(segment=Segment, words=u64[::1], elapsed=double, duration=u64, outcome=u64, check=u64, index=u64,
                   reference=u64)
    cpdef close_entry(self, Entry entry, u64 rows, u64 octets, u64 verdict, Definition rule, u64 beyond=*)

    cdef Segment _introduce(self, Definition session, Definition statement, Definition policy)
    cdef u64 _late_rule(self, Segment segment, Definition rule) except? 0
    cdef Segment _roll(self)
    cdef Segment _allocate(self)

cpdef bint has_room(Segment segment, Definition session, Definition statement, Definition policy)
