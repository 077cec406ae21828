"""``rowgate serve``: run the proxy until it is told to stop."""

import asyncio
import gc
import random
import resource
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop

from rowgate._twins import is_compiled
from rowgate.api.access import AccessError
from rowgate.api.server import ApiServerError
from rowgate.authentication.userlist import UserlistError
from rowgate.clock import SystemClock
from rowgate.events.log import EventLogError
from rowgate.events.webhook import WebhookError
from rowgate.identity.key_ages import KeyAgesError
from rowgate.identity.seal import SealError
from rowgate.identity.storage import IdentityStoreError
from rowgate.journal.errors import JournalError
from rowgate.ledger.interface import LedgerError
from rowgate.network.countries import CountriesError
from rowgate.network.listener import ListenError
from rowgate.network.tls_context import TlsFileError
from rowgate.policy.problem import PolicyError
from rowgate.session import session as session_module
from rowgate.settings import Settings, SettingsError, read_config, settings_from
from rowgate.worker import Worker

GC_ALLOCATIONS = 50_000
OTHER_DESCRIPTORS = 256  # listener, ledger, journal, catalogues, cancels
CANNOT_START = 1
# What keeps a worker from starting: each says what, where, and what to do.
START_FAILURES = (
    PolicyError,
    LedgerError,
    JournalError,
    ListenError,
    EventLogError,
    WebhookError,
    IdentityStoreError,
    KeyAgesError,
    TlsFileError,
    UserlistError,
    CountriesError,
    SealError,
    AccessError,
    ApiServerError,
)
USAGE = 2


def serve(
    *,
    listen: Annotated[str | None, typer.Option(help="HOST:PORT, or the path of a Unix socket.")] = None,
    upstream: Annotated[
        str | None,
        typer.Option(help="postgresql://[user@]host:port; the user reads the catalogue, its password is in ~/.pgpass."),
    ] = None,
    policy: Annotated[Path | None, typer.Option(help="The policy file; SIGHUP reads it again.")] = None,
    state: Annotated[Path | None, typer.Option(help="Directory for ledger, journal and events.")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with the same keys; options given here win.")] = None,
    sync: Annotated[str | None, typer.Option(help="normal: safe through kill -9. full: through power loss.")] = None,
    keep: Annotated[
        str | None,
        typer.Option(help="Bytes of journal kept, oldest dropped first; 1 GiB holds some 15 million statements."),
    ] = None,
    tls_certificate: Annotated[
        Path | None, typer.Option(help="PEM file: offer TLS to clients. SIGHUP reads it again.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file with the certificate's private key.")] = None,
    auth: Annotated[
        str | None,
        typer.Option(help="relay: the server authenticates. scram-sha-256, md5 or password: Rowgate does."),
    ] = None,
    auth_file: Annotated[Path | None, typer.Option(help='Users and their verifiers: lines of "name" "secret".')] = None,
    auth_query: Annotated[
        str | None, typer.Option(help="default, or SQL that returns name, verifier, end for user $1.")
    ] = None,
    webhook: Annotated[str | None, typer.Option(help="URL that alerts are posted to as JSON.")] = None,
    webhook_secret_file: Annotated[Path | None, typer.Option(help="File with the webhook's bearer token.")] = None,
) -> None:
    """Serve PostgreSQL clients, enforcing the policy. SIGHUP reloads it, SIGTERM drains, a second one ends at once."""
    given: dict[str, Any] = {
        "listen": listen,
        "upstream": upstream,
        "policy": policy,
        "state": state,
        "sync": sync,
        "keep": keep,
        "tls_certificate": tls_certificate,
        "tls_key": tls_key,
        "auth": auth,
        "auth_file": auth_file,
        "auth_query": auth_query,
        "webhook": webhook,
        "webhook_secret_file": webhook_secret_file,
    }
    try:
        settings = _settings(given, config)
    except SettingsError as error:
        _fail(str(error), USAGE)
    try:
        uvloop.run(_serve(settings))
    except START_FAILURES as error:
        _fail(str(error), CANNOT_START)
    except OSError as error:
        _fail(f"{error.filename or 'start'}: {error.strerror}", CANNOT_START)


def _settings(given: dict[str, Any], config: Path | None) -> Settings:
    """Return the settings of the config file and, over them, those given on the command line."""
    values = read_config(config) if config is not None else {}
    values.update({name: str(value) for name, value in given.items() if value is not None})
    settings = settings_from(values)
    if given["upstream"] is not None and settings.upstream.password:
        raise SettingsError("a password in --upstream is seen by every user of this machine: put it into ~/.pgpass")
    return settings


def _fail(message: str, status: int) -> None:
    sys.stderr.write(f"rowgate: {message}\n")
    raise typer.Exit(status)


def _allow_descriptors(settings: Settings) -> None:
    """Raise the soft limit on open files to what the sessions take (two each), or say that they cannot have it."""
    needed = 2 * settings.max_sessions + OTHER_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < needed:
        _say(f"max_sessions {settings.max_sessions} needs {needed} open files, {hard} are allowed: raise LimitNOFILE")


async def _serve(settings: Settings) -> None:
    _allow_descriptors(settings)
    worker = Worker(settings, SystemClock(), random.SystemRandom())
    stopping = asyncio.Event()
    ending = asyncio.Event()

    def stop() -> None:
        if stopping.is_set():
            ending.set()
        stopping.set()

    loop = asyncio.get_running_loop()
    # What is built by now lives as long as the process; what a statement makes dies by reference count. Walking both in
    # search of cycles (only an ended session is one) would stop every session for milliseconds, many times a second.
    gc.freeze()
    gc.set_threshold(GC_ALLOCATIONS)
    try:
        await worker.start()
        loop.add_signal_handler(signal.SIGHUP, lambda: _reload(worker))
        loop.add_signal_handler(signal.SIGTERM, stop)
        loop.add_signal_handler(signal.SIGINT, stop)
        path = "compiled" if is_compiled(session_module) else "pure Python, slower: no C compiler when installed"
        _say(f"listening on {worker.address}, server {settings.upstream.address}")
        _say(f"policy {worker.snapshot.source} version {worker.snapshot.version}, mode {worker.snapshot.mode.value}")
        _say(f"hot path {path}; events in {settings.state / 'events.jsonl'}")
        await stopping.wait()
        drain = asyncio.create_task(worker.drain())
        await asyncio.sleep(0)  # it closes the listener first
        _say("draining: no new sessions; SIGTERM again ends now")
        end = asyncio.create_task(ending.wait())
        await asyncio.wait({drain, end}, return_when=asyncio.FIRST_COMPLETED)
        drain.cancel()
        end.cancel()
    except ListenError:
        await worker.stop()
        raise
    else:
        await worker.stop()
        _say("stopped")


def _reload(worker: Worker) -> None:
    if worker.reload():
        _say(f"policy version {worker.snapshot.version} in force, mode {worker.snapshot.mode.value}")
    else:
        _say(f"policy not changed, {worker.snapshot.version} stays in force; see the event PolicyRejected")


def _say(text: str) -> None:
    sys.stderr.write(f"rowgate: {text}\n")
    sys.stderr.flush()
