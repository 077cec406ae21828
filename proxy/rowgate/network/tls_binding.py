"""Channel binding of type tls-server-end-point (RFC 5929, 4): an authentication proves which certificate it saw.

A man in the middle has a certificate of his own, so a proof (SCRAM-SHA-256-PLUS) that names another is worth nothing.
"""

import hashlib
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

# Broken or weak: RFC 5929 puts SHA-256 in their place.
_REPLACED: Final = frozenset({"md5", "sha1"})


class BindingError(ValueError):
    """A certificate has no binding: the message says why. PostgreSQL and libpq fail as well, rather than go without."""


def endpoint_binding(certificate: bytes) -> bytes:
    """Return the binding of a certificate (DER): its hash, by the hash function of its own signature.

    RSA-PSS signatures name theirs in their parameters. Where there is none (Ed25519, Ed448) the RFC defines no binding;
    going without one would let a man in the middle choose such a certificate to be rid of it.

    Raises:
        BindingError: the signature has no hash function, or one that is not known here, or this is no certificate.

    """
    try:
        parsed = x509.load_der_x509_certificate(certificate)
        function = parsed.signature_hash_algorithm
    except (ValueError, UnsupportedAlgorithm) as problem:
        raise BindingError(f"the certificate cannot be read, so it has no channel binding: {problem}") from None
    name = function.name.replace("-", "_") if function is not None else ""
    if name in _REPLACED:
        name = "sha256"
    if name not in hashlib.algorithms_available:
        raise BindingError(
            f"the certificate's signature ({parsed.signature_algorithm_oid.dotted_string}) has no hash function, so no"
            " channel binding: expected one signed with RSA or ECDSA"
        )
    return hashlib.new(name, certificate).digest()
