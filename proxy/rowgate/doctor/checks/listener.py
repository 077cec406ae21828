"""Whether clients reach the proxy in a way that nobody can listen in on."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from rowgate.doctor.facts import ListenerCertificate, Setup, is_near
from rowgate.doctor.finding import Finding, Grade, Remedy, listed

SOON: Final = 21 * 86_400.0
"""Seconds before a certificate's end from which on it is time."""


def judge_certificates(setup: Setup) -> Iterator[Finding]:
    """Find certificates that have expired, soon will, or cannot be used."""
    for certificate in setup.certificates:
        yield from _certificate(certificate, setup)


def _certificate(certificate: ListenerCertificate, setup: Setup) -> Iterator[Finding]:
    if certificate.problem:
        why = "clients are not offered TLS, or the proxy does not start"
        remedy = Remedy("correct tls_certificate and tls_key; SIGHUP has the proxy read them again")
        yield Finding(Grade.HOLE, certificate.problem, why, remedy)
        return
    left = certificate.expires - setup.now
    if left < SOON:
        day = datetime.fromtimestamp(certificate.expires, UTC).strftime("%Y-%m-%d %H:%M UTC")
        state = f"expires on {day}" if left > 0 else f"has expired on {day}"
        yield Finding(
            Grade.WARNING if left > 0 else Grade.HOLE,
            f"{certificate.path} ({listed(certificate.names)}) {state}",
            "clients that verify it are shut out, and then somebody turns verifying off",
            Remedy("renew it; SIGHUP has the proxy read it again"),
        )


def judge_listening(setup: Setup) -> Iterator[Finding]:
    """Find a proxy that takes plain text from the network."""
    settings = setup.settings
    if settings is None or settings.listen.path or is_near(settings.listen.host):
        return
    if settings.tls_certificate is None:
        yield Finding(
            Grade.HOLE,
            f"the proxy listens on {settings.listen}, without TLS",
            "passwords' proofs, tokens and all rows can be read, and changed, on the network",
            Remedy("in the config: tls_certificate and tls_key"),
        )
    elif setup.policy is not None:
        lax = [rule.name for rule in setup.policy.clients if not rule.requires_tls and not rule.certificates]
        if lax:
            yield Finding(
                Grade.WARNING,
                f"client rules that take plain text: {listed(lax)}",
                "a client that does not ask for TLS gets none, and nobody notices",
                Remedy("give them `tls: require`"),
            )


def judge_administration(setup: Setup) -> Iterator[Finding]:
    """Find an HTTP interface that takes plain text from the network."""
    settings = setup.settings
    if settings is None or settings.api_listen is None or is_near(settings.api_listen.host):
        return
    if settings.api_certificate is None:
        yield Finding(
            Grade.HOLE,
            f"HTTP is served on {settings.api_listen}, without TLS",
            "whoever listens in has the token of who revokes and lets in again",
            Remedy("in the config: api_certificate and api_key, or api_listen on a loopback address"),
        )
