"""Connections to a server by its name, though at one of the addresses that the name was found to have."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rowgate.network.address import Address, parse_upstream
from rowgate.network.dialler import DialError, Dialler
from rowgate.network.keepalive import Keepalive
from rowgate.network.tls_context import TlsFileError, listener_context
from support.certificates import Authority

NAME = "db.example"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
async def port(authority: Authority) -> AsyncIterator[int]:
    """What a server does first: it takes an SSLRequest, says S, and shows a certificate for ``NAME``."""
    identity = authority.server(NAME)
    context = listener_context(identity.certificate, identity.key)

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readexactly(8)
            writer.write(b"S")
            await writer.start_tls(context)
            await reader.read()
        except OSError:
            pass  # the client has gone: it did not like the certificate
        finally:
            writer.close()

    server = await asyncio.start_server(meet, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize("name", [NAME, "other.example", ""])
async def test_the_certificate_must_have_the_name_that_the_address_was_found_by(
    authority: Authority, port: int, name: str
) -> None:
    upstream = parse_upstream(f"postgresql://{NAME}:{port}?sslmode=verify-full&sslrootcert={authority.root}")
    dialler = Dialler(upstream, Keepalive(60.0))
    address = Address("127.0.0.1", port, name=name)
    if name == NAME:
        connected = await dialler.open(address, 30.0)
        assert connected.tls is not None
        assert connected.tls.established
        connected.transport.abort()
    else:
        with pytest.raises(DialError, match="TLS handshake failed"):
            await dialler.open(address, 30.0)


async def test_authorities_read_again_count_from_the_next_connection(
    tmp_path: Path, authority: Authority, port: int
) -> None:
    root = tmp_path / "roots.pem"
    root.write_bytes(Authority(tmp_path / "former", "the former authority").root.read_bytes())
    upstream = parse_upstream(f"postgresql://{NAME}:{port}?sslmode=verify-full&sslrootcert={root}")
    dialler, address = Dialler(upstream, Keepalive(60.0)), Address("127.0.0.1", port, name=NAME)
    with pytest.raises(DialError, match="TLS handshake failed"):
        await dialler.open(address, 30.0)
    root.write_bytes(authority.root.read_bytes())
    dialler.reload()
    root.write_text("no PEM")
    with pytest.raises(TlsFileError):
        dialler.reload()
    (await dialler.open(address, 30.0)).transport.abort()
