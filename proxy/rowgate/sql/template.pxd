cimport cython

ctypedef const unsigned char* p_uchar
ctypedef unsigned char* p_writable

cdef int ODD, SPACE, LETTER, DIGIT, SINGLE, DOUBLE, DOLLAR, DOT, OTHER
cdef int LINE_FEED, RETURN, BLANK, QUOTATION, DOLLAR_SIGN, AMPERSAND, APOSTROPHE, OPENING
cdef int STAR, PLUS, MINUS, PERIOD, SLASH, SEMICOLON, UPPER_E, BACKSLASH, LOWER_E
cdef int NUMBER_MARK, STRING_MARK, GIVE_UP
cdef Py_ssize_t _LONGEST_WORD

@cython.locals(n=Py_ssize_t, room=Py_ssize_t, size=Py_ssize_t, buffer=bytearray)
cpdef bytes template(bytes text)

@cython.locals(
    p=p_uchar, o=p_writable, classes=p_uchar, i=Py_ssize_t, size=Py_ssize_t, start=Py_ssize_t,
    c=cython.int, kind=cython.int, following=cython.int,
    gap=cython.bint, first=cython.bint, after_string=cython.bint,
)
cdef Py_ssize_t _fill(bytes text, Py_ssize_t n, bytearray buffer, Py_ssize_t room) except -2

cdef Py_ssize_t _line_end(p_uchar p, Py_ssize_t i, Py_ssize_t n) noexcept

@cython.locals(depth=Py_ssize_t)
cdef Py_ssize_t _comment_end(p_uchar p, Py_ssize_t i, Py_ssize_t n) noexcept

@cython.locals(c=cython.int)
cdef Py_ssize_t _string_end(p_uchar p, Py_ssize_t i, Py_ssize_t n) noexcept

@cython.locals(c=cython.int)
cdef Py_ssize_t _quoted_end(p_uchar p, Py_ssize_t i, Py_ssize_t n) noexcept

cdef Py_ssize_t _word_end(p_uchar p, Py_ssize_t i, Py_ssize_t n, p_uchar classes) noexcept

@cython.locals(dotted=cython.bint)
cdef Py_ssize_t _number_end(p_uchar p, Py_ssize_t i, Py_ssize_t n, p_uchar classes) noexcept
