"""Connections to a server: what fails says why, to whom asked and to the server."""

import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvloop

from rowgate.network.address import parse_upstream
from rowgate.network.dialler import DialError, Dialler
from rowgate.network.keepalive import Keepalive
from rowgate.wire.startup import ACCEPTED, ssl_request
from support.certificates import Authority

SECONDS = 10.0


@contextmanager
def encrypting_server(context: ssl.SSLContext) -> Iterator[tuple[int, "Future[str]"]]:
    """A server that takes one client as far as TLS; gives its port, and in the end why its handshake failed."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        listener.settimeout(SECONDS)

        def serve() -> str:
            sock, _ = listener.accept()
            with sock:
                sock.settimeout(SECONDS)
                assert sock.recv(1024) == ssl_request()
                sock.sendall(ACCEPTED)
                try:
                    context.wrap_socket(sock, server_side=True).recv(1)
                except OSError as problem:
                    return getattr(problem, "reason", None) or str(problem)
                return ""

        yield listener.getsockname()[1], pool.submit(serve)


def test_a_server_whose_certificate_is_refused_is_told(tmp_path: Path) -> None:
    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs", "somebody else's authority")
    identity = theirs.server("127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.certificate, identity.key)
    with encrypting_server(context) as (port, outcome):
        upstream = parse_upstream(f"postgresql://kim@127.0.0.1:{port}/?sslmode=verify-ca&sslrootcert={ours.root}")

        async def dial() -> None:
            await Dialler(upstream, Keepalive(60)).open(upstream.address, SECONDS)

        with pytest.raises(DialError, match="certificate is not accepted"):
            uvloop.run(dial())
        assert outcome.result(SECONDS) == "TLSV1_ALERT_UNKNOWN_CA"


def test_a_name_that_no_certificate_can_have_is_an_error_of_the_address(tmp_path: Path) -> None:
    label = "x" * 64
    upstream = parse_upstream(
        f"postgresql://kim@{label}.example/?sslmode=verify-full&sslrootcert={Authority(tmp_path).root}"
    )

    async def dial() -> None:
        await Dialler(upstream, Keepalive(60)).open(upstream.address, SECONDS)

    with pytest.raises(DialError, match=label):
        uvloop.run(dial())
