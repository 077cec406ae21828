"""Anything that changes who counts, in any order: what a session says to a server, for both to be asked behind it."""

import random
from collections.abc import Iterator

from support.bearer_relay import token_of
from support.raw_client import SYNC, RawClient, extended

KIM, LEE = token_of("kim@shop.example"), token_of("lee@shop.example")
STATEMENTS = [
    *[f"SET rowgate.token = '{token}'" for token in (KIM, LEE, "")],
    *[f"SET LOCAL rowgate.token = '{token}'" for token in (KIM, LEE, "")] * 2,
    *[f"SELECT set_config('rowgate.token', '{token}', {local})" for token in (KIM, LEE) for local in ("true", "false")],
    "SELECT set_config('rowgate.token', NULL, true)",
    *["BEGIN"] * 6,
    *["COMMIT", "ROLLBACK", "COMMIT AND CHAIN", "ROLLBACK AND CHAIN"],
    *[f"{verb} {name}" for verb in ("SAVEPOINT", "RELEASE", "ROLLBACK TO") for name in "abB"] * 2,
    *["RESET rowgate.token", "SET LOCAL rowgate.token TO DEFAULT", "RESET ALL", "DISCARD ALL"],
    *["SELECT 1/0", "SELECT 1", "not SQL", "SELECT set_config('search_path', 'public', true)"],
]
STEPS = 150


def script(client: RawClient, way: str, seed: int) -> Iterator[list[str]]:
    """Say things at random, as ``simple`` queries, pipelined ``groups`` or ``texts`` of several statements.

    What was said is given behind each step after which the server can be asked something.
    """
    rng = random.Random(seed)  # noqa: S311 - a script, no secret
    for _ in range(STEPS):
        said = rng.choices(STATEMENTS, k=1 if way == "simple" else rng.randrange(1, 5))
        if way == "groups":
            client.send(*[extended(each, described=rng.random() < 0.5) for each in said], SYNC)
            client.ready()
        else:
            client.query("; ".join(said))
        if client.transaction != "E":
            yield said
