"""Text from elsewhere on a terminal."""


def printable(text: str) -> str:
    """Return ``text`` on one line, with what a terminal would obey written out: a name must not move the cursor."""
    spaced = text.replace("\n", " ").replace("\t", " ")
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in spaced)
