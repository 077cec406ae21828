"""``rowgate doctor``: look for ways around the proxy, and say how each is closed."""

import asyncio
import json
import os
from dataclasses import asdict
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.text import Text

from rowgate.cli.printable import printable
from rowgate.clock import Clock, SystemClock
from rowgate.doctor.examination import NOTES, Report, examine
from rowgate.doctor.facts import Facts, Network, Server, Setup
from rowgate.doctor.finding import Finding, Grade, Remedy
from rowgate.doctor.local import read_certificates, read_files
from rowgate.doctor.reader import Asked, ServerError, read_server
from rowgate.identity.seal import SealError, read_key
from rowgate.network.address import AddressError, Upstream, parse_upstream
from rowgate.network.tls_context import TlsFileError
from rowgate.policy.load import load
from rowgate.policy.problem import PolicyError
from rowgate.policy.snapshot import Snapshot
from rowgate.settings import Settings, SettingsError, read_config, settings_from

COULD_NOT_LOOK: Final = 3
"""Exit status: what was asked for cannot be read, or no server answered."""

MAX_SERVERS: Final = 16
"""Servers looked at in one run; an upstream has as many hosts at most."""

_STYLES: Final = {Grade.HOLE: "bold red", Grade.WARNING: "yellow", Grade.UNCHECKED: "magenta"}
_WORDS: Final = {Grade.HOLE: "HOLE", Grade.WARNING: "WARNING", Grade.UNCHECKED: "NOT CHECKED"}


def doctor(
    upstream: Annotated[
        str | None,
        typer.Option(help="postgresql://user@host:port: look with another login than the config's, a superuser's say."),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="The config file that `rowgate serve` is given.")] = None,
    policy: Annotated[Path | None, typer.Option(help="The policy file; default: the config's.")] = None,
    proxy: Annotated[
        list[str] | None,
        typer.Option(help="An address or network that other proxies connect from; this machine is one already."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Look for ways around the proxy, without changing anything. Run it on the proxy's machine, as its account.

    Exit status: 0 all fine, 1 warnings or something that could not be checked, 2 holes, 3 nothing could be looked at.
    """
    clock = SystemClock()
    settings, logins = _settings(upstream, config, policy)
    policy_file = policy or (settings.policy if settings is not None else None)
    snapshot = _policy(policy_file)
    setup = Setup(
        now=clock.wall(),
        user=os.geteuid(),
        settings=settings,
        policy=snapshot,
        files=tuple(read_files(settings, policy_file, config, snapshot)),
        certificates=tuple(read_certificates(settings)),
        proxies=_networks(proxy or []),
    )
    try:
        facts = asyncio.run(_facts(logins, setup, clock))
    except SealError as problem:
        raise _failure(str(problem)) from None
    report = examine(facts)
    if as_json:
        typer.echo(json.dumps(_as_json(report), ensure_ascii=False, indent=2))
    else:
        _print(report)
    raise typer.Exit(report.status if facts.servers else COULD_NOT_LOOK)


def _settings(
    upstream: str | None, config: Path | None, policy: Path | None
) -> tuple[Settings | None, dict[Upstream, str]]:
    """Return the proxy's settings, as far as they are given, and the servers to look at with the proxy's user there."""
    try:
        given = parse_upstream(upstream) if upstream is not None else None
        if given is not None and given.password:
            raise _failure("a password in --upstream is seen by every user of this machine: put it into ~/.pgpass")
        values = {} if config is None else read_config(config)
        if policy is not None:
            values["policy"] = str(policy)
        settings = settings_from(values) if config is not None else None
    except (AddressError, SettingsError) as problem:
        raise _failure(str(problem)) from None
    if given is None and settings is None:
        raise _failure("nothing to look at: give --config, or --upstream postgresql://user@host:port")
    own = [] if settings is None else [settings.upstream, *(route.upstream for route in settings.databases.values())]
    logins = {each: each.user for each in own} if given is None else {given: own[0].user if own else given.user}
    if nobody := next((each for each, login in logins.items() if not each.user or not login), None):
        raise _failure(f"upstream {nobody}: expected a user of the proxy's own, postgresql://user@host:port")
    return settings, logins


def _policy(path: Path | None) -> Snapshot | None:
    try:
        return None if path is None else load(path)
    except PolicyError as error:
        raise _failure("\n".join(map(str, error.problems))) from None


def _networks(texts: list[str]) -> tuple[Network, ...]:
    try:
        return tuple(ip_network(text) for text in texts)
    except ValueError as problem:
        raise _failure(f"--proxy: {problem}; expected an address or a network such as 10.0.0.0/29") from None


def _failure(message: str) -> typer.Exit:
    typer.echo(f"rowgate doctor: {message}", err=True)
    return typer.Exit(COULD_NOT_LOOK)


async def _facts(logins: dict[Upstream, str], setup: Setup, clock: Clock) -> Facts:
    servers: list[Server] = []
    unreachable: list[tuple[str, str]] = []
    entities = setup.policy.entities if setup.policy is not None else ()
    key_file = setup.settings.seal_key_file if setup.settings is not None else None
    key = read_key(key_file) if key_file is not None else None
    places = dict.fromkeys((upstream, address) for upstream in logins for address in upstream.addresses)
    for upstream, address in list(places)[:MAX_SERVERS]:
        try:
            servers.append(await read_server(upstream, address, Asked(logins[upstream], entities, key), clock))
        except (ServerError, TlsFileError) as problem:
            unreachable.append((str(address), str(problem)))
    unreachable += [(str(address), f"more than {MAX_SERVERS} servers") for _, address in list(places)[MAX_SERVERS:]]
    return Facts(setup, tuple(servers), tuple(unreachable))


def _as_json(report: Report) -> dict[str, Any]:
    return {
        "status": report.status,
        "findings": [{**asdict(finding), "grade": finding.grade.name.lower()} for finding in report.findings],
        "fine": [check.name for check in report.fine],
        "notes": list(NOTES),
    }


def _print(report: Report) -> None:
    console = Console(highlight=False, markup=False, emoji=False)
    for finding in report.findings:
        _print_finding(console, finding)
    for check in report.fine:
        console.print(Text.assemble(("fine  ", "green"), f"{check.name}: {check.fine}"))
    console.print()
    for note in NOTES:
        console.print(note, style="dim")
    console.print(_summary(report))


def _print_finding(console: Console, finding: Finding) -> None:
    place = ", ".join(
        part for part in (finding.server, f"database {finding.database}" if finding.database else "") if part
    )
    head = Text.assemble((_WORDS[finding.grade], _STYLES[finding.grade]), f"  {printable(finding.found)}")
    if place:
        head.append(f"  [{printable(place)}]", style="dim")
    console.print(head, soft_wrap=True)
    if finding.grade is not Grade.UNCHECKED:
        console.print(Text(f"    why: {printable(finding.why)}"), soft_wrap=True)
    for line in _remedy(finding.remedy):
        console.print(Text(f"    {printable(line)}"), soft_wrap=True)
    console.print()


def _remedy(remedy: Remedy) -> list[str]:
    lines = []
    for edit in remedy.edits:
        place = f"{edit.file}, line {edit.line}"
        news = edit.new.split("\n") if edit.new else []
        lines += [f"mend: in {place}, put instead: {new}" for new in news] or [
            f"mend: delete line {edit.line} of {edit.file}"
        ]
    lines += [f"mend: {statement}" for statement in remedy.sql]
    lines += [f"mend: {command}" for command in remedy.commands]
    if remedy.text:
        lines.append(f"{'note' if lines else 'mend'}: {remedy.text}")
    return lines


def _summary(report: Report) -> str:
    counts = [
        (grade, sum(finding.grade is grade for finding in report.findings)) for grade in sorted(Grade, reverse=True)
    ]
    words = {Grade.HOLE: "holes", Grade.WARNING: "warnings", Grade.UNCHECKED: "not checked"}
    return ", ".join(f"{count} {words[grade]}" for grade, count in counts) + f"; {len(report.fine)} checks fine"
