"""Tokens for libpq 18: the hook by which a program says where its OAuth tokens come from (PQsetAuthDataHook).

psycopg's own libpq has it; without a hook it would ask a library for the device flow, which wheels do not have. Source:
PostgreSQL 18 documentation, "OAuth Support", "Authentication Data Hooks".
"""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg_binary

OAUTH_BEARER_TOKEN: Final = 1
ANSWERED: Final = 1
NOT_MINE: Final = 0


class _Request(ctypes.Structure):
    _fields_ = (
        ("openid_configuration", ctypes.c_char_p),
        ("scope", ctypes.c_char_p),
        ("poll", ctypes.c_void_p),
        ("cleanup", ctypes.c_void_p),
        ("token", ctypes.c_char_p),
        ("user", ctypes.c_void_p),
    )


@dataclass(frozen=True, slots=True)
class Asked:
    """What libpq asks its program for a token with; empty where the server has not said it."""

    configuration: str
    scope: str


_Hook = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


@contextmanager
def tokens(source: Callable[[], str]) -> Iterator[list[Asked]]:
    """Give libpq the token that ``source`` returns; what it asked with is in the list."""
    asked: list[Asked] = []
    kept: list[bytes] = []

    def answer(kind: int, _: int | None, data: int | None) -> int:
        if kind != OAUTH_BEARER_TOKEN or data is None:
            return NOT_MINE
        request = _Request.from_address(data)
        asked.append(Asked((request.openid_configuration or b"").decode(), (request.scope or b"").decode()))
        kept.append(source().encode())
        request.token = kept[-1]
        return ANSWERED

    library = _library()
    hook = _Hook(answer)
    library.PQgetAuthDataHook.restype = ctypes.c_void_p
    library.PQsetAuthDataHook.argtypes = (ctypes.c_void_p,)
    former = library.PQgetAuthDataHook()
    library.PQsetAuthDataHook(ctypes.cast(hook, ctypes.c_void_p))
    try:
        yield asked
    finally:
        library.PQsetAuthDataHook(former)


def _library() -> ctypes.CDLL:
    """Return the libpq that psycopg has loaded."""
    package = Path(psycopg_binary.__file__).parent
    (path,) = package.with_name("psycopg_binary.libs").glob("libpq-*.so*")
    return ctypes.CDLL(str(path))
