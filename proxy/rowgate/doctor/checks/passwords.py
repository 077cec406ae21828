"""How the server asks for passwords, and what they are."""

from collections.abc import Iterator, Mapping
from typing import Final

from rowgate.doctor.facts import HbaRule, Secret, SecretKind, Server, Setup
from rowgate.doctor.finding import Finding, Grade, Remedy, known, listed, quoted
from rowgate.doctor.hba import STRONG, admits_proxy, live_rules, mended

_WEAKNESSES: Final[Mapping[str, tuple[Grade, str]]] = {
    "trust": (Grade.HOLE, "whoever gets that far is whom he says he is, the superuser too, without any password"),
    "password": (Grade.WARNING, "passwords come in plain text"),
    "md5": (Grade.WARNING, "whoever has read a stored md5 hash logs in with it, and breaks it in hours"),
    "ident": (Grade.WARNING, "the client's machine is believed, whoever runs it"),
}


def judge_lines(server: Server, setup: Setup) -> Iterator[Finding]:
    """Find lines of pg_hba.conf that ask for nothing, or for it badly."""
    relayed = setup.settings is None or setup.settings.auth is None
    for rule in live_rules(server):
        if rule.method in _WEAKNESSES:
            grade, why = _WEAKNESSES[rule.method]
            yield Finding(grade, f"{rule.where}: {rule.written()}", why, mended(rule, server, setup))
        elif rule.method == "peer" and relayed and admits_proxy(rule, server):
            yield _peer(rule)


def _peer(rule: HbaRule) -> Finding:
    return Finding(
        Grade.HOLE,
        f"{rule.where}: {rule.written()}, and the proxy comes by that way",
        "everybody who reaches the proxy is then the proxy's system account to the server, and is asked for nothing",
        Remedy(f"let the server ask: method {STRONG} there, or let the proxy ask: `auth` in its config"),
    )


def judge_encryption(server: Server, setup: Setup) -> Iterator[Finding]:
    """Find a server that stores the next password as an md5 hash."""
    del setup
    method = server.setting("password_encryption")
    if method != STRONG:
        yield Finding(
            Grade.WARNING,
            f"password_encryption is {method}",
            "a password set from now on is stored as a hash that is a password itself",
            Remedy(sql=(f"ALTER SYSTEM SET password_encryption = '{STRONG}';", "SELECT pg_reload_conf();")),
        )


def judge_stored(server: Server, setup: Setup) -> Iterator[Finding]:
    """Find stored passwords that are md5 hashes, or that anybody could guess."""
    del setup
    secrets = known(server.secrets)
    for name, secret in secrets.items():
        if secret.guessed:
            yield _guessed(name, secret)
    hashed = [name for name, secret in secrets.items() if secret.kind is SecretKind.MD5]
    if hashed:
        yield Finding(
            Grade.WARNING,
            f"stored as md5 hashes: the passwords of {listed(hashed)}",
            "such a hash lets in whoever has read it, from a backup say, and is broken in hours",
            Remedy(
                "set each anew while password_encryption is scram-sha-256; in psql \\password does it unseen: "
                + ", ".join(f"\\password {quoted(name)}" for name in hashed),
            ),
        )


def _guessed(name: str, secret: Secret) -> Finding:
    return Finding(
        Grade.HOLE,
        f"the password of {name} is {secret.guessed}",
        "it is what a thief tries first",
        Remedy("or give it a good one: \\password in psql", sql=(f"ALTER ROLE {quoted(name)} PASSWORD NULL;",)),
    )
