"""Authentication requests by their code: the first four bytes of an 'R' message's body.

Source: PostgreSQL documentation, "Message Formats", AuthenticationOk and those that follow it.
"""

import struct
from typing import Final

from rowgate.wire import messages
from rowgate.wire.types import AUTHENTICATION, PASSWORD

OK: Final = 0
CLEARTEXT_PASSWORD: Final = 3
MD5_PASSWORD: Final = 5
SASL: Final = 10
SASL_CONTINUE: Final = 11
SASL_FINAL: Final = 12

# What a server may ask for and this proxy cannot answer, named for people.
UNANSWERABLE: Final = {2: "Kerberos 5", 6: "an SCM credential", 7: "GSSAPI", 8: "GSSAPI", 9: "SSPI"}

MD5_SALT: Final = 4  # bytes of an AuthenticationMD5Password's salt


def request(code: int, content: bytes = b"") -> bytes:
    """Return one whole message of the server that asks for authentication."""
    return messages.message(AUTHENTICATION, struct.pack("!I", code) + content)


def response(content: bytes) -> bytes:
    """Return one whole 'p' message of the client: a password, or a SASL message."""
    return messages.message(PASSWORD, content)


def sasl_initial_response(mechanism: bytes, content: bytes) -> bytes:
    """Return one whole SASLInitialResponse."""
    return response(mechanism + b"\0" + struct.pack("!I", len(content)) + content)
