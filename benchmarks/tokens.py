"""What a token costs: a session's first, beyond its signature, and one that has been seen before.

``python benchmarks/tokens.py [--tokens N] [--rounds N] [--json]``: an issuer's keys are known, nobody is asked over the
network. *Signature* is the verification by joserfc alone. *New* is a token's whole way through
``rowgate.network.verifier.Verifier``, with the issuance record and the directory answering at once; *beyond* is the
same with a signature that is right without being looked at: what everything else costs. *Known* is a token seen before.
Each figure is the best of the rounds, which take turns, so a busy machine troubles all alike.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final
from unittest.mock import patch
from uuid import UUID

from joserfc import jwk, jwt

from rowgate._twins import is_compiled
from rowgate.clock import SystemClock
from rowgate.identity import token as token_module
from rowgate.identity.keyset import PublicKey, parse_key_set
from rowgate.identity.token import TokenParser
from rowgate.network.verifier import Verification, Verifier
from rowgate.policy.snapshot import Issuer

TOKENS: Final = 500
ROUNDS: Final = 30
GOAL_BEYOND_US: Final = 5.0  # a session's start, beyond the signature
GOAL_KNOWN_US: Final = 10.0  # a statement that brings a token seen before
ISSUER: Final = "https://sso.shop.example"


@dataclass(frozen=True, slots=True)
class Figures:
    """Microseconds a token."""

    signature: float
    new: float
    beyond: float
    known: float


class Tokens:
    """An issuer with one key, in a file, and tokens that it has signed."""

    def __init__(self, folder: Path, count: int) -> None:
        key = jwk.ECKey.generate_key("P-256", {"kid": "2026-11"})
        self.keys = folder / "jwks.json"
        self.keys.write_text(json.dumps({"keys": [key.as_dict(private=False)]}))
        self.key = parse_key_set(self.keys.read_bytes())[0]
        now = int(time.time())
        about = {
            "iss": ISSUER,
            "aud": ["rowgate"],
            "sub": "kim@shop.example",
            "iat": now,
            "nbf": now,
            "exp": now + 3600,
        }
        header = {"alg": "ES256", "kid": "2026-11", "typ": "JWT"}
        self.texts = [jwt.encode(header, {**about, "jti": str(UUID(int=number))}, key) for number in range(count)]
        parser = TokenParser()
        self.read = [parser.parse(text) for text in self.texts]


async def measure(tokens: Tokens, rounds: int) -> Figures:
    """Return the best of ``rounds`` for each."""
    verifier = Verifier(
        [Issuer("sso", ISSUER, ("rowgate",), str(tokens.keys), ("ES256",), recorded=True, directory=True)],
        SystemClock(),
        Verification(
            issued=lambda *_: True,
            known_person=lambda _: True,
            revoked=lambda _: False,
            first_seen=lambda _, now: now,
            report=lambda _: None,
        ),
    )
    await verifier.verify(tokens.texts[0])
    figures: list[Figures] = []
    try:
        for _ in range(rounds):
            signature = _timed(lambda: _signatures(tokens))
            verifier.forget()
            new = await _timed_verify(verifier, tokens)
            known = _timed(lambda: _each(verifier.known, tokens.texts))
            verifier.forget()
            with patch.object(PublicKey, "verifies", _right):
                beyond = await _timed_verify(verifier, tokens)
            figures.append(Figures(signature, new, beyond, known))
    finally:
        await verifier.close()
    count = len(tokens.texts)
    best = (min(getattr(each, name) for each in figures) for name in Figures.__slots__)
    return Figures(*(round(each / count * 1e6, 2) for each in best))


def _right(*_: object) -> bool:
    return True


def _signatures(tokens: Tokens) -> None:
    for each in tokens.read:
        if not tokens.key.verifies("ES256", each.signed, each.signature):
            raise ValueError("a signature is wrong")


def _each(look_up: Callable[[str], object], texts: Iterable[str]) -> None:
    for text in texts:
        if look_up(text) is None:
            raise ValueError("a token is not known")


def _timed(work: Callable[[], None]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


async def _timed_verify(verifier: Verifier, tokens: Tokens) -> float:
    begin = time.perf_counter()
    for text in tokens.texts:
        await verifier.verify(text)
    return time.perf_counter() - begin


def main() -> int:
    """Measure and print; 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--tokens", type=int, default=TOKENS, help=f"tokens a round (default {TOKENS})")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"rounds (default {ROUNDS})")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rg-token-") as name:
        figures = asyncio.run(measure(Tokens(Path(name), options.tokens), options.rounds))
    held = figures.beyond <= GOAL_BEYOND_US and figures.known <= GOAL_KNOWN_US
    if options.json:
        facts = {
            "compiled": is_compiled(token_module),
            "unit": "µs",
            **asdict(figures),
            "goal": {"beyond": GOAL_BEYOND_US, "known": GOAL_KNOWN_US, "held": held},
        }
        print(json.dumps(facts, indent=1, ensure_ascii=False))
    else:
        print("| a token, µs | signature | new | beyond the signature | known |\n| --- | ---: | ---: | ---: | ---: |")
        print(f"| ES256 | {figures.signature} | {figures.new} | {figures.beyond} | {figures.known} |")
        verdict = "held" if held else "missed"
        print(f"\ngoals, beyond at most {GOAL_BEYOND_US} µs and known at most {GOAL_KNOWN_US} µs: {verdict}")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
