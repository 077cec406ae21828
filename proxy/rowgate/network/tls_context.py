"""What TLS accepts: contexts made from an operator's files, for clients of ours and for the server behind us.

A context is made anew when the files are read again; connections that stand keep the one they began with. Rules for
files and modes are PostgreSQL's ("Secure TCP/IP Connections with SSL", libpq's "SSL Support").
"""

import math
import os
import re
import ssl
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from rowgate.network.address import SslMode
from rowgate.network.tls_binding import endpoint_binding

# The application protocol that PostgreSQL has registered (RFC 7301); direct TLS requires that both ends agree on it.
ALPN: Final = "postgresql"
# Bytes of a file with certificates or a key: the authorities of a whole operating system are a quarter of a MiB.
MAX_FILE: Final = 4 * 1024 * 1024
# Bytes of a file with revocation lists: a million revoked certificates.
MAX_LISTS: Final = 64 * 1024 * 1024

_LIST: Final = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)

RevocationList = x509.CertificateRevocationList


class TlsFileError(ValueError):
    """A file with a certificate or key is of no use: the message says which, why, and what to do."""


def listener_context(
    certificate: Path, key: Path, *, client_ca: Path | None = None, revoked: Sequence[RevocationList] = ()
) -> ssl.SSLContext:
    """Return what clients are met with: our certificate (its chain behind it in the file) and its key, both PEM.

    With ``client_ca`` a client is asked for a certificate: it may have none, but not one that these do not vouch for.
    With lists of what is ``revoked``, each authority of a client's certificate needs one that has not expired, as with
    PostgreSQL's ``ssl_crl_file``.

    Raises:
        TlsFileError: a file cannot be read or used, the key is another certificate's, or others may read it.

    """
    context = _context(ssl.PROTOCOL_TLS_SERVER)
    _load_identity(context, certificate, key)
    if client_ca is not None:
        _load_authorities(context, client_ca)
        context.verify_mode = ssl.CERT_OPTIONAL
        if revoked:
            _load_lists(context, revoked)
    return context


def revocation_lists(path: Path, client_ca: Path) -> tuple[RevocationList, ...]:
    """Return the revocation lists of a file, PEM (any number) or DER (one).

    Raises:
        TlsFileError: it cannot be read or used, or an authority in ``client_ca`` has no list of its own in it.

    """
    octets = _read(path, "list of revoked certificates", MAX_LISTS)
    try:
        parts = _LIST.findall(octets)
        lists = tuple(map(x509.load_pem_x509_crl, parts)) if parts else (x509.load_der_x509_crl(octets),)
    except ValueError:
        raise TlsFileError(
            f"{path}: no list of revoked certificates can be read in it, expected PEM (BEGIN X509 CRL) or DER"
        ) from None
    for authority in _read_certificates(client_ca):
        if not any(_is_list_of(each, authority) for each in lists):
            raise TlsFileError(
                f"{path}: no list that {authority.subject.rfc4514_string()!r} of {client_ca} has signed: without one"
                " every certificate of its is refused"
            )
    return lists


def lists_until(lists: Sequence[RevocationList]) -> float:
    """Return when (seconds since the epoch) the first of some revocation lists expires, infinity where none does."""
    ends = (each.next_update_utc for each in lists)
    return min((end.timestamp() for end in ends if end is not None), default=math.inf)


def is_revoked(lists: Sequence[RevocationList], issuer: bytes, serial: int) -> bool:
    """Return whether a certificate, by its issuer's name (DER) and its serial number, is in one of the lists."""
    return any(
        each.issuer.public_bytes() == issuer and each.get_revoked_certificate_by_serial_number(serial) is not None
        for each in lists
    )


def server_context(
    mode: SslMode, *, root: Path | None = None, certificate: Path | None = None, key: Path | None = None
) -> ssl.SSLContext | None:
    """Return what the server is met with under libpq's ``sslmode``; None: in plain text.

    ``root``: the authorities that may vouch for the server, None: those that the operating system trusts. ``prefer``
    verifies nothing; neither does ``require``, unless there is a ``root``: then it is ``verify-ca``, as libpq has it.
    ``certificate`` and ``key``: shown to a server that asks, both or neither.

    Raises:
        TlsFileError: a file cannot be read or used, the key is another certificate's, or others may read it.

    """
    if mode is SslMode.DISABLE:
        return None
    context = _context(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = mode is SslMode.VERIFY_FULL
    if mode is SslMode.PREFER or (mode is SslMode.REQUIRE and root is None):
        context.verify_mode = ssl.CERT_NONE
    elif root is None:
        context.load_default_certs()
    else:
        _load_authorities(context, root)
    if certificate is not None and key is not None:
        _load_identity(context, certificate, key)
    elif certificate is not None or key is not None:
        raise TlsFileError(f"{certificate or key}: a client's certificate and key come together, expected both")
    return context


def certificate_binding(certificate: Path) -> bytes:
    """Return the channel binding (tls-server-end-point) of our own certificate, the first of the file.

    Raises:
        TlsFileError: the file cannot be read or used.
        BindingError: a certificate so signed has none (Ed25519): SCRAM-SHA-256-PLUS cannot be offered with it.

    """
    return endpoint_binding(_read_certificates(certificate)[0].public_bytes(Encoding.DER))


def _context(protocol: int) -> ssl.SSLContext:
    """Return a context with what holds for both sides. No ``SSLKEYLOGFILE``: keys are written nowhere."""
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # As PostgreSQL: a session that is resumed would be authenticated by nobody, compression tells secrets by their
    # length, and renegotiation lets a client make us work.
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0
    context.set_alpn_protocols([ALPN])
    return context


def _load_identity(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    public = _read_certificates(certificate)[0].public_key()
    if _octets(public) != _octets(_read_key(key).public_key()):
        raise TlsFileError(f"{key}: this is not the key of the certificate in {certificate}: expected the two to match")
    try:
        context.load_cert_chain(certificate, key, password=_no_pass_phrase)
    except (ssl.SSLError, OSError) as problem:
        raise TlsFileError(f"{certificate}: OpenSSL does not accept it with {key}: {_reason(problem)}") from None


def _load_authorities(context: ssl.SSLContext, path: Path) -> None:
    _read(path, "certificates")
    try:
        context.load_verify_locations(path)
    except (ssl.SSLError, OSError) as problem:
        raise TlsFileError(
            f"{path}: no authority can be read in it ({_reason(problem)}), expected PEM (BEGIN CERTIFICATE)"
        ) from None


def _load_lists(context: ssl.SSLContext, lists: Sequence[RevocationList]) -> None:
    """Have every certificate of a client's chain looked up. Nothing but lists: a certificate would be trusted."""
    octets = b"".join(each.public_bytes(Encoding.PEM) for each in lists)
    with _as_file(octets) as path:
        context.load_verify_locations(path)
    context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_CHAIN


@contextmanager
def _as_file(octets: bytes) -> Iterator[str]:
    """Give octets a name for OpenSSL, which reads lists from files alone; in memory where the system can."""
    if not hasattr(os, "memfd_create"):
        with tempfile.NamedTemporaryFile() as file:
            file.write(octets)
            file.flush()
            yield file.name
        return
    descriptor = os.memfd_create("revoked")
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(octets)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _is_list_of(revoked: RevocationList, authority: x509.Certificate) -> bool:
    key: Any = authority.public_key()
    return revoked.issuer == authority.subject and revoked.is_signature_valid(key)


def _read_certificates(path: Path) -> list[x509.Certificate]:
    octets = _read(path, "certificate")
    try:
        return x509.load_pem_x509_certificates(octets)
    except ValueError:
        raise TlsFileError(f"{path}: no certificate can be read in it, expected PEM (BEGIN CERTIFICATE)") from None


def _read_key(path: Path) -> Any:
    _check_access(path)
    octets = _read(path, "key")
    try:
        return load_pem_private_key(octets, None)
    except TypeError:
        raise TlsFileError(f"{path}: the key has a pass phrase, which nobody can type here: store it without") from None
    except (ValueError, UnsupportedAlgorithm):
        raise TlsFileError(f"{path}: no private key can be read in it, expected PEM (BEGIN PRIVATE KEY)") from None


def _read(path: Path, what: str, most: int = MAX_FILE) -> bytes:
    try:
        with path.open("rb") as file:
            octets = file.read(most + 1)
    except OSError as problem:
        raise TlsFileError(f"{path}: the {what} cannot be read: {problem.strerror}") from None
    if len(octets) > most:
        raise TlsFileError(f"{path}: more than {most} bytes, expected PEM with no more than the {what}")
    return octets


def _check_access(path: Path) -> None:
    """Refuse a key that others may read, as PostgreSQL does with ``ssl_key_file``: 0600, or 0640 if it is root's."""
    try:
        status = path.stat()
    except OSError as problem:
        raise TlsFileError(f"{path}: the key cannot be read: {problem.strerror}") from None
    if not stat.S_ISREG(status.st_mode):
        raise TlsFileError(f"{path}: no regular file, expected a key in PEM form")
    if status.st_uid not in {0, os.geteuid()}:
        raise TlsFileError(f"{path}: the key is another user's: expected root's, or of the user that rowgate runs as")
    others = stat.S_IWGRP | stat.S_IXGRP | stat.S_IRWXO if status.st_uid == 0 else stat.S_IRWXG | stat.S_IRWXO
    if status.st_mode & others:
        mode = "0640" if status.st_uid == 0 else "0600"
        raise TlsFileError(
            f"{path}: others have access to the key (mode {stat.S_IMODE(status.st_mode):04o}): chmod {mode} or less"
        )


def _octets(public: Any) -> bytes:
    octets: bytes = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return octets


def _no_pass_phrase() -> str:
    """Keep OpenSSL from asking at a terminal."""
    return ""


def _reason(problem: OSError) -> str:
    reason: str = getattr(problem, "reason", None) or problem.strerror or type(problem).__name__
    return reason.replace("_", " ").lower()
