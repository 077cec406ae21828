"""The template of a statement: its text without the values of its literals, made by a lexer and not by the parser.

PostgreSQL's rules of tokens: https://www.postgresql.org/docs/18/sql-syntax-lexical.html. The lexer knows only the plain
ones and gives up at the rest (escape strings, dollar quotes, odd numbers): then the exact text is the key.

Why two texts of one template mean the same: the reader parses :func:`sql_of` the template and nothing else, so their
facts are equal by construction. What is left to show is that a text and its template have the same tokens apart from
the values, and for that the markers are bytes that cannot stand in a text, and differ for numbers and strings.
"""

NUMBER = b"\x01"
STRING = b"\x02"

# A statement longer than this is not lexed: at about 1 GB/s that is 16 ms, during which nobody else is served.
MAX_TEXT = 16 * 1024 * 1024

# A longer template is not worth a place in the cache.
MAX_TEMPLATE = 8 * 1024

# Classes of bytes. A byte without a class of its own ends the attempt: controls, backslash, backtick.
ODD, SPACE, LETTER, DIGIT, SINGLE, DOUBLE, DOLLAR, DOT, OTHER = range(9)

# Bytes with a part of their own (C integers in the compiled twin, as are the classes).
LINE_FEED, RETURN, BLANK, QUOTATION, DOLLAR_SIGN, AMPERSAND, APOSTROPHE, OPENING = b"\n\r \"$&'("
STAR, PLUS, MINUS, PERIOD, SLASH, SEMICOLON, UPPER_E, BACKSLASH, LOWER_E = b"*+-./;E\\e"
NUMBER_MARK, STRING_MARK = NUMBER[0], STRING[0]
GIVE_UP = -1

_LETTERS = frozenset("_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_FIRST_HIGH_BYTE = 0x80


def _class_of(byte: int) -> int:
    character = chr(byte)
    if byte >= _FIRST_HIGH_BYTE or character in _LETTERS:
        return LETTER
    if character in "0123456789":
        return DIGIT
    if character in " \t\n\r\f":  # not \v: a space since PostgreSQL 16 only
        return SPACE
    named = {"'": SINGLE, '"': DOUBLE, "$": DOLLAR, ".": DOT}
    return named.get(character, OTHER if character in "()[],;:+-*/<>=~!@#%^&|?{}" else ODD)


_CLASSES = bytes(_class_of(byte) for byte in range(256))

# The length of the longest first word that leads to a template.
_LONGEST_WORD = 6

_FIRST_WORDS = frozenset({b"select", b"insert", b"update", b"delete", b"with", b"values", b"merge", b"table"})


def template(text: bytes) -> bytes | None:
    """Return ``text`` with each number as ``NUMBER``, each string as ``STRING``, each gap as one space.

    None when the text is of another kind than a query or DML, or holds what only PostgreSQL's own lexer may judge.
    The text is taken to be in an encoding whose ASCII bytes are ASCII, with ``standard_conforming_strings`` on.
    """
    n = len(text)
    if n > MAX_TEXT:
        return None
    room = min(n, MAX_TEMPLATE) + 2  # a template is never longer than its text
    buffer = bytearray(room)
    size = _fill(text, n, buffer, room)
    if size < 0:
        return None
    return bytes(buffer[:size])


def _fill(text: bytes, n: int, buffer: bytearray, room: int) -> int:  # noqa: C901, PLR0911, PLR0912, PLR0915
    """Write the template of ``text`` into ``buffer``; return its length, GIVE_UP where there is none.

    One loop: it runs for every byte of every statement, and compiled its variables stay in registers.
    """
    p = text
    o = buffer
    classes = _CLASSES
    i = 0
    size = 0
    gap = False  # a space is due before the next token
    first = True  # a first word is due: at the start and after each semicolon
    after_string = False  # the last token was a string: another one may continue it
    while i < n:
        c = p[i]
        kind = classes[c]
        if kind == SPACE:
            i += 1
            gap = True
            continue
        following = p[i + 1] if i + 1 < n else 0
        if c == MINUS and following == MINUS:
            i = _line_end(p, i + 2, n)
            gap = True
            continue
        if c == SLASH and following == STAR:
            i = _comment_end(p, i + 2, n)
            if i < 0:
                return GIVE_UP
            gap = True
            continue
        if size + 2 > room:  # a space and the first byte of a token
            return GIVE_UP
        if gap:
            gap = False
            if size:
                o[size] = BLANK
                size += 1
        if first and kind != LETTER and c != OPENING and c != SEMICOLON:  # noqa: PLR1714 - a set is no C
            return GIVE_UP
        start = i
        if kind == SINGLE:
            if after_string:  # with a newline between them two strings are one
                return GIVE_UP
            i = _string_end(p, i + 1, n)
            if i < 0 or (i < n and (classes[p[i]] == LETTER or classes[p[i]] == DIGIT)):
                return GIVE_UP
            o[size] = STRING_MARK
            size += 1
            after_string = True
            continue
        after_string = False
        if kind == DIGIT or (kind == DOT and i + 1 < n and classes[following] == DIGIT):
            if kind == DOT and i and classes[p[i - 1]] != SPACE and classes[p[i - 1]] != OTHER:
                return GIVE_UP
            i = _number_end(p, i, n, classes)
            if i < 0 or (i < n and classes[p[i]] != SPACE and classes[p[i]] != OTHER):
                return GIVE_UP
            o[size] = NUMBER_MARK
            size += 1
            continue
        if kind == LETTER:
            i = _word_end(p, i, n, classes)
            if i < n and p[i] == APOSTROPHE:  # a prefix (E, B, X, N) or a typed literal without a space
                return GIVE_UP
            if first and (i - start > _LONGEST_WORD or text[start:i].lower() not in _FIRST_WORDS):
                return GIVE_UP
            first = False
        elif kind == OTHER:
            if c == AMPERSAND and (following == APOSTROPHE or following == QUOTATION):  # noqa: PLR1714, SIM109 - U&
                return GIVE_UP
            first = first or c == SEMICOLON
            i += 1
        elif kind == DOUBLE:
            i = _quoted_end(p, i + 1, n)
            if i < 0 or (i < n and p[i] == APOSTROPHE):
                return GIVE_UP
        elif kind == DOLLAR:  # a parameter, or the start of a dollar quote
            i += 1
            while i < n and classes[p[i]] == DIGIT:
                i += 1
            if i == start + 1 or (i < n and classes[p[i]] != SPACE and classes[p[i]] != OTHER):
                return GIVE_UP
        elif kind == DOT and following != PERIOD:
            i += 1
        else:
            return GIVE_UP
        if size + i - start > room:
            return GIVE_UP
        while start < i:
            o[size] = p[start]
            size += 1
            start += 1
    return size


def _line_end(p: bytes, i: int, n: int) -> int:
    """Return where the line that ``i`` is in ends, or where a NUL stands in it."""
    while i < n and p[i] != LINE_FEED and p[i] != RETURN and p[i] != 0:
        i += 1
    return i


def _comment_end(p: bytes, i: int, n: int) -> int:
    """Return where the block comment that ``i`` is in ends, comments within it included; GIVE_UP if it does not."""
    depth = 1
    while i + 1 < n:
        if p[i] == STAR and p[i + 1] == SLASH:
            depth -= 1
            i += 2
            if depth == 0:
                return i
        elif p[i] == SLASH and p[i + 1] == STAR:
            depth += 1
            i += 2
        elif p[i] == 0:
            return GIVE_UP
        else:
            i += 1
    return GIVE_UP


def _string_end(p: bytes, i: int, n: int) -> int:
    """Return where the string that ``i`` is in ends; GIVE_UP if it does not, or has a backslash or NUL in it."""
    while i < n:
        c = p[i]
        i += 1
        if c == APOSTROPHE:
            if i >= n or p[i] != APOSTROPHE:
                return i
            i += 1
        elif c == BACKSLASH or c == 0:  # noqa: PLR1714 - a set is no C
            return GIVE_UP
    return GIVE_UP


def _quoted_end(p: bytes, i: int, n: int) -> int:
    """Return where the quoted identifier that ``i`` is in ends; GIVE_UP if it does not, or has a control in it."""
    while i < n:
        c = p[i]
        i += 1
        if c == QUOTATION:
            if i >= n or p[i] != QUOTATION:
                return i
            i += 1
        elif c < BLANK:
            return GIVE_UP
    return GIVE_UP


def _word_end(p: bytes, i: int, n: int, classes: bytes) -> int:
    """Return where the keyword or identifier that ``i`` is in ends."""
    while i < n and (classes[p[i]] == LETTER or classes[p[i]] == DIGIT or p[i] == DOLLAR_SIGN):
        i += 1
    return i


def _number_end(p: bytes, i: int, n: int, classes: bytes) -> int:
    """Return where the number at ``i`` ends: digits, at most one dot, an exponent; GIVE_UP if that has no digits."""
    dotted = False
    while i < n and (classes[p[i]] == DIGIT or (p[i] == PERIOD and not dotted)):
        dotted = dotted or p[i] == PERIOD
        i += 1
    if i < n and (p[i] == LOWER_E or p[i] == UPPER_E):
        i += 1
        if i < n and (p[i] == PLUS or p[i] == MINUS):
            i += 1
        if i >= n or classes[p[i]] != DIGIT:
            return GIVE_UP
        while i < n and classes[p[i]] == DIGIT:
            i += 1
    return i


def sql_of(key: bytes) -> bytes:
    """Return a statement of the template ``key``: what the parser is given in place of the client's text."""
    return key.replace(NUMBER, b"1").replace(STRING, b"''")
