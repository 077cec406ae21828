"""An input of a fuzzer, read as a program: bytes that say what to do next, none of them ever missing."""


class Program:
    """Reads bytes one after the other; beyond the end there are only zeros, so every input is a whole program."""

    __slots__ = ("_data", "_position")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def more(self) -> bool:
        """Return whether anything is left."""
        return self._position < len(self._data)

    def byte(self) -> int:
        """Take one byte."""
        if self._position >= len(self._data):
            return 0
        self._position += 1
        return self._data[self._position - 1]

    def take(self, count: int) -> bytes:
        """Take so many bytes, or what is left of them."""
        taken = self._data[self._position : self._position + count]
        self._position += len(taken)
        return taken

    def rest(self) -> bytes:
        """Take everything that is left."""
        return self.take(len(self._data))
