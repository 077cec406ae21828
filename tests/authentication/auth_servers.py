"""Parts of the servers that these tests log into, and what they store of their users."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from support.raw_client import RawClient

HBA = """
local all postgres trust
local all all scram-sha-256
host all postgres 127.0.0.1/32 trust
host all clear_user 127.0.0.1/32 password
host all md5_user 127.0.0.1/32 md5
host all all 127.0.0.1/32 scram-sha-256
"""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A self-signed certificate of localhost."""

    certificate: Path
    key: Path


def make_certificate(folder: Path, *options: str) -> Certificate:
    """Make a certificate of localhost; ``options`` choose key and signature."""
    made = Certificate(folder / "server.crt", folder / "server.key")
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-days", "30"]
    files = ["-keyout", str(made.key), "-out", str(made.certificate)]
    subprocess.run(["openssl", "req", "-x509", "-nodes", *files, *subject, *options], check=True, capture_output=True)
    return made


@dataclass(frozen=True, slots=True)
class TlsServer:
    """Debian's PostgreSQL 15 with TLS on 127.0.0.1."""

    port: int
    socket: Path


def create_users(client: RawClient) -> None:
    """Create the users of these tests, all with the password ``right`` or what it says."""
    client.query("CREATE ROLE kim LOGIN PASSWORD 'right'; CREATE ROLE clear_user LOGIN PASSWORD 'right'")
    client.query("SET scram_iterations = 10000; CREATE ROLE slow LOGIN PASSWORD 'right'")
    client.query("SET password_encryption = 'md5'; CREATE ROLE md5_user LOGIN PASSWORD 'right'")


def stored(client: RawClient, user: str) -> str:
    """Return the secret that a server stores of a user."""
    rows = client.query(f"SELECT rolpassword FROM pg_authid WHERE rolname = '{user}'")
    return next(message.body[6:].decode() for message in rows if message.type == "D")
