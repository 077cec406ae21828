"""A client's certificate, which TLS has verified by then: whose it is, and until when.

Source: RFC 5280 section 4.1.2.6 (subject) and 4.2.1.6 (alternative names).
"""

import hashlib
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import NameOID

from rowgate.subject import Certificate

# Names in one certificate: a client has a handful; each is held against every pattern of a policy.
MAX_NAMES: Final = 64
# Characters of a name: a host name has 253 at most, an e-mail address 254; a URI may be longer than anybody needs.
MAX_NAME: Final = 512

Number = tuple[bytes, int]
"""What lists of revoked certificates know one by: its issuer's name (DER), and its serial number."""

_NAMING: Final = (x509.DNSName, x509.RFC822Name, x509.UniformResourceIdentifier)


class ClientCertificateError(ValueError):
    """A certificate says nobody's name, or in a way that could be read as another's; the message says what is wrong."""


def read_certificate(certificate: bytes) -> tuple[Certificate, Number]:
    """Return what a verified certificate (DER) says, and its number.

    Raises:
        ClientCertificateError: it has no name, too many, or one that cannot be shown as it is.

    """
    try:
        parsed = x509.load_der_x509_certificate(certificate)
        names = _names(parsed)
        expires = parsed.not_valid_after_utc.timestamp()
        number = parsed.issuer.public_bytes(), parsed.serial_number
    except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as problem:
        raise ClientCertificateError(f"the client's certificate cannot be read: {problem}") from None
    return Certificate(names[0], names, hashlib.sha256(certificate).hexdigest(), expires), number


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return the common name first, where there is one, and each other name once."""
    found = dict.fromkeys([*_common_name(certificate.subject), *_alternative_names(certificate.extensions)])
    if not found:
        raise ClientCertificateError("it has neither a common name nor an alternative name (DNS, e-mail, URI)")
    if len(found) > MAX_NAMES:
        raise ClientCertificateError(f"it has {len(found)} names, expected at most {MAX_NAMES}")
    for name in found:
        if not 0 < len(name) <= MAX_NAME or not name.isprintable():
            raise ClientCertificateError(f"it has a name that is empty, over {MAX_NAME} characters or not printable")
    return tuple(found)


def _common_name(subject: x509.Name) -> list[str]:
    """Return the last of the common names: a directory has its containers in front of it (CN=Users, CN=Kim)."""
    values = [attribute.value for attribute in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return [value for value in values[len(values) - 1 :] if isinstance(value, str)]


def _alternative_names(extensions: x509.Extensions) -> list[str]:
    try:
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in names if isinstance(name, _NAMING)]
