"""Reads what is known on the proxy's own machine: modes and owners of files, the listener's certificate. No content."""

import os
import stat
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.x509.oid import NameOID

from rowgate.doctor.facts import File, ListenerCertificate
from rowgate.network.address import Upstream
from rowgate.network.tls_context import TlsFileError, listener_context
from rowgate.policy.snapshot import Snapshot
from rowgate.settings import Settings

MAX_ENTRIES: Final = 1_000
"""Files of the state directory that are looked at: there are a handful (the journal has a directory of its own)."""

_SECRET_WORDS: Final = ("secret", "token", "password", "auth", "key")


def read_files(
    settings: Settings | None, policy: Path | None, config: Path | None, rules: Snapshot | None
) -> list[File]:
    """Return what is known of every file that the proxy's safety rests on."""
    files = []
    for path, purpose in ((policy, "policy"), (config, "config file")):
        if path is not None:
            holds_secret = path == config and settings is not None and _has_password(settings)
            files += [
                _file(path.resolve().parent, f"directory of the {purpose}"),
                _file(path, purpose, secret=holds_secret),
            ]
    if settings is not None:
        files += _settings_files(settings)
    for issuer in rules.issuers if rules is not None else ():
        if issuer.introspection is not None:
            files.append(_file(Path(issuer.introspection.secret_file), f"secret of issuer {issuer.name}", secret=True))
        if "://" not in issuer.keys:
            files.append(_file(Path(issuer.keys), f"keys of issuer {issuer.name}"))
    return list({file.path: file for file in files}.values())


def read_certificates(settings: Settings | None) -> Iterator[ListenerCertificate]:
    """Give the certificates that clients and administrators are met with, each loaded as the proxy does."""
    if settings is None:
        return
    pairs = ((settings.tls_certificate, settings.tls_key), (settings.api_certificate, settings.api_key))
    for path, key in pairs:
        if path is not None and key is not None:
            yield _certificate(path, key)


def _certificate(path: Path, key: Path) -> ListenerCertificate:
    try:
        listener_context(path, key)
        certificate = x509.load_pem_x509_certificates(path.read_bytes())[0]
    except TlsFileError as problem:
        return ListenerCertificate(path, 0.0, (), str(problem))
    return ListenerCertificate(path, certificate.not_valid_after_utc.timestamp(), tuple(_names(certificate)))


def _names(certificate: x509.Certificate) -> Iterator[str]:
    for attribute in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME):
        yield str(attribute.value)
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return
    yield from alternatives.get_values_for_type(x509.DNSName)


def _settings_files(settings: Settings) -> Iterator[File]:
    yield _file(settings.state, "state directory", secret=True)
    yield from _entries(settings.state)
    for each in fields(settings):
        path = getattr(settings, each.name)
        if isinstance(path, Path) and each.name not in {"state", "policy"}:
            yield _file(path, each.name, secret=any(word in each.name for word in _SECRET_WORDS))
    for name, route in settings.databases.items():
        if route.password_file is not None:
            yield _file(route.password_file, f"password_file of database {name}", secret=True)
    for upstream in _upstreams(settings):
        if upstream.tls.key is not None:
            yield _file(upstream.tls.key, "sslkey of the upstream", secret=True)
    passwords = Path(os.environ.get("PGPASSFILE") or Path.home() / ".pgpass")
    if passwords.exists():
        yield _file(passwords, "password file", secret=True)


def _entries(state: Path) -> Iterator[File]:
    try:
        with os.scandir(state) as entries:
            for entry, _ in zip(entries, range(MAX_ENTRIES), strict=False):
                yield _file(Path(entry.path), "state", secret=True)
    except OSError:
        return  # the directory itself says why


def _file(path: Path, purpose: str, *, secret: bool = False) -> File:
    try:
        status = path.stat()
    except OSError as problem:
        return File(path, purpose, secret, problem=problem.strerror or type(problem).__name__)
    directory = stat.S_ISDIR(status.st_mode)
    return File(path, purpose, secret, stat.S_IMODE(status.st_mode), status.st_uid, directory)


def _upstreams(settings: Settings) -> list[Upstream]:
    return list(dict.fromkeys([settings.upstream, *(route.upstream for route in settings.databases.values())]))


def _has_password(settings: Settings) -> bool:
    return any(upstream.password for upstream in _upstreams(settings))
