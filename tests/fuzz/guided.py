"""Run one target under atheris: ``python -m fuzz.guided TARGET [options of libFuzzer] [folders of inputs]``.

Pure Python can be followed, and compiled modules that were built for it: ``rowgate`` must come from a folder of the one
(``fuzz.sources``) or the other (``fuzz.native``, whose library ``FUZZ_LIBRARY`` names).
The rooms imported here, before the target, are not instrumented, nor is the harness: following them costs time, and
would teach the fuzzer nothing of the wire.
"""

import ctypes
import os
import sys
from collections.abc import Callable

# Ahead of atheris, which then takes this libFuzzer for its own, and of the compiled modules, which report to it.
if library := os.environ.get("FUZZ_LIBRARY"):
    ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)

import atheris

import rowgate.journal.facts
import rowgate.ledger.memory
import rowgate.policy.load
import rowgate.sql.reader
from fuzz.targets import TARGETS
from rowgate._twins import is_compiled


def main(arguments: list[str]) -> None:
    """Fuzz until libFuzzer's ``-runs`` are over; a finding ends the process with libFuzzer's own code."""
    target = TARGETS[arguments[1]]
    assert library or not is_compiled(rowgate.sql.reader), "these compiled modules cannot be followed"
    with atheris.instrument_imports(include=["rowgate"]):
        execute = target.execute()
    mutate = target.mutate()
    # What libFuzzer merges by: it runs itself anew, by the name it has been given.
    options = [os.environ.get("FUZZ_COMMAND", arguments[0]), *arguments[2:]]
    if mutate is None:
        atheris.Setup(options, execute)
    else:
        atheris.Setup(options, execute, custom_mutator=_kept_short(mutate))
    atheris.Fuzz()


def _kept_short(mutate: Callable[[bytes, int, int], bytes]) -> Callable[[bytes, int, int], bytes]:
    return lambda data, longest, seed: mutate(data, longest, seed)[:longest]


if __name__ == "__main__":
    main(sys.argv)
