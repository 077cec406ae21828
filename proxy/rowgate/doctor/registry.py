"""The checks, in the order in which they are told. A new one is a file in ``checks`` and a line here."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from rowgate.doctor.checks import (
    clocks,
    connections,
    definers,
    encryption,
    end_user,
    exits,
    files,
    listener,
    logging,
    other_hosts,
    own_rights,
    passwords,
    policy,
    privileges,
    row_security,
    superusers,
    users,
)
from rowgate.doctor.facts import Database, Server, Setup
from rowgate.doctor.finding import Finding

ServerJudge = Callable[[Server, Setup], Iterator[Finding]]
DatabaseJudge = Callable[[Database, Server, Setup], Iterator[Finding]]
SetupJudge = Callable[[Setup], Iterator[Finding]]


@dataclass(frozen=True, slots=True)
class Check:
    """One question. ``needs``: which of the proxy's own files it cannot do without."""

    name: str
    fine: str
    """What is so where it finds nothing."""
    servers: tuple[ServerJudge, ...] = ()
    databases: tuple[DatabaseJudge, ...] = ()
    setup: tuple[SetupJudge, ...] = ()
    needs: tuple[str, ...] = ()
    """Of ``policy`` and ``settings``."""


CHECKS: Final = (
    Check(
        "other hosts",
        "only the proxy's machine may connect to the server, and only it does",
        servers=(other_hosts.judge_lines, other_hosts.judge_listening, other_hosts.judge_sessions),
    ),
    Check(
        "passwords",
        "everybody is asked for a good password",
        servers=(passwords.judge_lines, passwords.judge_encryption, passwords.judge_stored),
    ),
    Check(
        "encryption",
        "nothing passes between proxy and server in plain text",
        servers=(encryption.judge_server, encryption.judge_lines),
        setup=(encryption.judge_upstream,),
        needs=("settings",),
    ),
    Check("superusers", "each superuser has a client rule", servers=(superusers.judge,)),
    Check("users", "each user of the server is one the policy admits", servers=(users.judge,), needs=("policy",)),
    Check(
        "privileges",
        "no user has rights beyond tables",
        servers=(privileges.judge_attributes, privileges.judge_groups),
    ),
    Check(
        "exits",
        "nothing leads out of the databases",
        servers=(exits.judge_replication,),
        databases=(
            exits.judge_extensions,
            exits.judge_languages,
            exits.judge_foreign_servers,
            exits.judge_permits,
            exits.judge_publications,
        ),
    ),
    Check("definers", "no function makes everybody a superuser", databases=(definers.judge,)),
    Check(
        "own rights",
        "the proxy's login may do what it must, and no more",
        servers=(own_rights.judge_login,),
        databases=(own_rights.judge_database,),
    ),
    Check(
        "row security",
        "where end users are verified, tables of people are protected by row",
        databases=(row_security.judge,),
        needs=("policy",),
    ),
    Check(
        "end user",
        "where end users are verified, rowgate.end_user() tells them",
        databases=(end_user.judge,),
        setup=(end_user.judge_key,),
        needs=("policy",),
    ),
    Check("connections", "the server has room for all sessions", servers=(connections.judge,), needs=("settings",)),
    Check("logging", "no log holds what statements say", servers=(logging.judge,)),
    Check("clocks", "proxy and server agree on the time", servers=(clocks.judge,)),
    Check(
        "policy", "the policy enforces, and lets in nobody it does not know", setup=(policy.judge,), needs=("policy",)
    ),
    Check("files", "the proxy's files are its own", setup=(files.judge,), needs=("settings",)),
    Check(
        "listener",
        "clients and administrators reach the proxy by TLS",
        setup=(listener.judge_certificates, listener.judge_listening, listener.judge_administration),
        needs=("settings",),
    ),
)
