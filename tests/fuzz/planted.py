"""Bugs to be planted, one at a time, each to be found: what shows that the fuzzers bite.

    python -m fuzz.planted [NAME …]

A bug is planted in a copy of the sources, never in place. Its fuzzer must find it within ``BUDGET`` executions.
"""

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from fuzz.run import FOUND, guided
from fuzz.sources import Change
from fuzz.targets import TARGETS

# Executions within which a planted bug must be found, the kept inputs among them.
BUDGET: Final = 30_000


@dataclass(frozen=True, slots=True)
class Bug:
    """A bug: what it is called, the target that must find it, and the change that plants it."""

    name: str
    target: str
    change: Change

    def is_found(self, budget: int = BUDGET) -> bool:
        """Plant it, and return whether its fuzzer finds it within so many executions."""
        with TemporaryDirectory(prefix="rg-bug-") as directory:
            sources = self.change.apply(Path(directory) / "sources")
            return guided(TARGETS[self.target], budget, 1, sources, Path(directory), quiet=True) == FOUND


ROWS: Final = "wire/rows.py"
PACKETS: Final = "wire/startup.py"
CLIENT: Final = "session/client_stream.py"
SERVER: Final = "session/server_stream.py"
CONVERSATION: Final = "session/conversation.py"

BUGS: Final = {
    bug.name: bug
    for bug in (
        Bug(
            "a length that does not count the type byte",
            "scanner",
            Change(ROWS, "cost = length + 1", "cost = length"),
        ),
        Bug(
            "a row uncounted at a chunk's edge",
            "scanner",
            Change(
                ROWS,
                "                missing = position",
                "                rows -= 1\n                missing = position",
            ),
        ),
        Bug(
            "one row beyond the room",
            "scanner",
            Change(ROWS, "rows >= room_rows", "rows > room_rows"),
        ),
        Bug(
            "a negative length taken for a long one",
            "scanner",
            Change(ROWS, " or length > MAX_LENGTH", ""),
        ),
        Bug(
            "a parameter that is named twice",
            "startup",
            Change(PACKETS, 'len(found) != len(names) or "" in found', '"" in found'),
        ),
        Bug(
            "a start-up packet of any length",
            "startup",
            Change(PACKETS, "<= length <= MAX_STARTUP_PACKET", "<= length"),
        ),
        Bug(
            "a cancel key that lacks its first byte",
            "startup",
            Change(PACKETS, "key = packet[12:]", "key = packet[13:]"),
        ),
        Bug(
            "a TLS client told from no other",
            "startup",
            Change("session/reception.py", "not self._asked and not self.encrypted", "not self.encrypted"),
        ),
        Bug(
            "a mapped address that stays IPv6",
            "startup",
            Change("wire/proxy_header.py", "address if mapped is None else mapped", "address"),
        ),
        Bug(
            "a proof that nobody checks",
            "login",
            Change(
                "authentication/scram_server.py",
                "if not hmac.compare_digest(scram.digest(client_key), verifier.stored_key)",
                "if not client_key",
            ),
        ),
        Bug(
            "an md5 answer of which the beginning is enough",
            "login",
            Change(
                "authentication/frontend.py",
                "hmac.compare_digest(sent, secret.answer_md5(stored, self._salt))",
                "hmac.compare_digest(sent[:3], secret.answer_md5(stored, self._salt)[:3])",
            ),
        ),
        Bug(
            "skipping that the next Sync does not end",
            "client",
            Change(
                CONVERSATION,
                "        self.open_executes = 0\n        self.skipping = False\n",
                "        self.open_executes = 0\n",
            ),
        ),
        Bug(
            "a Sync sent while a result may still be cut",
            "client",
            Change(CLIENT, "if conversation.open_executes and conversation.group_writes and not", "if False and not"),
        ),
        Bug(
            "a result inside a transaction that nothing waits for",
            "client",
            Change(CONVERSATION, "(self.exclusive or self.takes_copy", "(self.takes_copy"),
        ),
        Bug(
            "a portal's former portions forgotten",
            "client",
            Change("metering/charge.py", "self.plan.max_rows - rows", "self.plan.max_rows"),
        ),
        Bug(
            "a Sync that a COPY has swallowed, still waited for",
            "client",
            Change(
                "session/replies.py",
                "                previous.following = reply.following\n",
                "                previous = reply\n",
            ),
        ),
        Bug(
            "a forgotten state: the suspended portal",
            "client",
            Change("session/transitions.py", "    (EXECUTE_REPLY, PORTAL_SUSPENDED): COMPLETE,\n", ""),
        ),
        Bug(
            "octets that nobody is charged for",
            "server",
            Change(SERVER, "charge.settle(scanner.rows, scanner.octets)", "charge.settle(scanner.rows, 0)"),
        ),
        Bug(
            "a row uncharged whose end is still to come",
            "server",
            Change(
                SERVER,
                "charge.settle(scanner.rows, scanner.octets)",
                "charge.settle(scanner.rows - (scanner.body_missing > 0), scanner.octets)",
            ),
        ),
        Bug(
            "a function's result that is no row",
            "server",
            Change(SERVER, "self._spend(execution, 1, whole,", "self._spend(execution, 0, whole,"),
        ),
        Bug(
            "the rest of a dropped row, taken for messages",
            "client",
            Change(SERVER, "        self._drop = scanner.body_missing\n", ""),
        ),
        Bug(
            "our last word inside a message of the server's",
            "server",
            Change(CONVERSATION, "        if not self.client_lacks:\n", "        if True:\n"),
        ),
        Bug(
            "a header lost between two reads",
            "talks",
            Change(SERVER, "        if position < end:\n            self._kept += data[position:]\n", ""),
        ),
        Bug(
            "the rest of a row, taken for messages",
            "talks",
            Change(SERVER, "            self.conversation.client_lacks = scanner.body_missing\n", ""),
        ),
        Bug(
            "a message that waited, sent twice",
            "talks",
            Change(CLIENT, "            self._kept.clear()\n", ""),
        ),
    )
}


def main() -> int:
    """Plant the bugs that are named, or all; return 1 if one is not found."""
    parser = argparse.ArgumentParser(prog="fuzz.planted", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all {len(BUGS)}")
    missed = 0
    for name in parser.parse_args().names or BUGS:
        begun = time.monotonic()
        found = BUGS[name].is_found()
        missed += not found
        spent = time.monotonic() - begun
        print(f"{'found' if found else 'MISSED'} by {BUGS[name].target:8} in {spent:4.0f} s: {name}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
