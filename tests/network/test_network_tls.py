"""TLS without a socket, against itself and against the TLS of others: Python's, OpenSSL's, libpq's."""

import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from rowgate.network.address import SslMode
from rowgate.network.tls import MAX_PIECE, Tls, TlsError
from rowgate.network.tls_context import certificate_binding, listener_context, server_context
from support.certificates import Authority, Identity
from support.tls_ends import SECONDS, OnSocket, fail, shake

MIB = 1024 * 1024
ALERT = 0x15  # a record's first byte
CLIENT_HELLO = 0x16
# Every byte different from its neighbours, and no two records alike.
TEXT = bytes(number * number % 251 for number in range(3 * MAX_PIECE + 4711))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("stranger"), "somebody else's authority")


@pytest.fixture(scope="module")
def identity(authority: Authority) -> Identity:
    return authority.server("db.example", "127.0.0.1", "::1")


def ours_as_server(identity: Identity, client_ca: Path | None = None) -> Tls:
    return Tls(listener_context(identity.certificate, identity.key, client_ca=client_ca), server_side=True)


def ours_as_client(
    mode: SslMode = SslMode.REQUIRE,
    root: Path | None = None,
    host: str = "db.example",
    identity: Identity | None = None,
) -> Tls:
    certificate, key = (identity.certificate, identity.key) if identity is not None else (None, None)
    context = server_context(mode, root=root, certificate=certificate, key=key)
    assert context is not None
    return Tls(context, server_side=False, hostname=host)


@pytest.fixture
def ends(authority: Authority, identity: Identity) -> tuple[Tls, Tls]:
    client, server = ours_as_client(SslMode.VERIFY_FULL, authority.root), ours_as_server(identity)
    shake(client, server)
    return client, server


# What arrives


def test_both_ends_agree(ends: tuple[Tls, Tls], identity: Identity) -> None:
    client, server = ends
    assert client.version == server.version == "TLSv1.3"
    assert client.cipher == server.cipher != ""
    assert client.alpn == server.alpn == "postgresql"
    assert client.peer_certificate() == identity.der
    assert client.peer_binding() == certificate_binding(identity.certificate)
    assert server.peer_certificate() is None
    assert server.peer_binding() is None


@pytest.mark.parametrize("step", [1, 5, 1000, MAX_PIECE - 1, MAX_PIECE, MAX_PIECE + 1, 10**9])
@pytest.mark.parametrize("length", [1, 100, MAX_PIECE, MAX_PIECE + 1, len(TEXT)])
def test_however_it_comes_the_text_is_the_same(ends: tuple[Tls, Tls], step: int, length: int) -> None:
    client, server = ends
    for sender, receiver in ((client, server), (server, client)):
        sender.send(TEXT[:length])
        octets = sender.take()
        got = b"".join(receiver.receive(octets[at : at + step]) for at in range(0, len(octets), step))
        assert got == TEXT[:length]


def test_byte_by_byte_from_the_first_hello(identity: Identity) -> None:
    client, server = ours_as_client(), ours_as_server(identity)
    client.start()
    while not (client.established and server.established):
        for sender, receiver in ((client, server), (server, client)):
            for octet in sender.take():
                assert receiver.receive(bytes([octet])) == b""
    assert client.version == server.version != ""


@pytest.mark.parametrize("text", [b"Q", TEXT], ids=["a byte", "much"])
def test_text_behind_the_handshake_is_returned_with_it(identity: Identity, text: bytes) -> None:
    client, server = ours_as_client(), ours_as_server(identity)
    client.start()
    while not client.established:
        server.receive(client.take())
        client.receive(server.take())
    client.send(text)
    assert not server.established
    assert server.receive(client.take()) == text
    assert server.established


def test_many_small_messages_in_one_read(ends: tuple[Tls, Tls]) -> None:
    client, server = ends
    for number in range(1000):
        client.send(b"%d;" % number)
    octets = client.take()
    assert client.take() == b""
    assert server.receive(octets) == b"".join(b"%d;" % number for number in range(1000))


def test_order_is_kept_between_long_and_short(ends: tuple[Tls, Tls]) -> None:
    client, server = ends
    for text in (b"first", TEXT, b"", b"second", TEXT, b"last"):
        client.send(text)
    assert server.receive(client.take()) == b"first" + TEXT + b"second" + TEXT + b"last"


@pytest.mark.peers(25)
def test_a_read_that_grows_takes_time_in_proportion(ends: tuple[Tls, Tls]) -> None:
    """64 MiB at once take about as long as 64 times one MiB: 64 times as long, were anything copied for each record."""
    client, server = ends

    def cost(size: int, times: int) -> tuple[float, float]:
        text = bytes(size)
        sending = receiving = 0.0
        for _ in range(times):
            began = time.process_time()
            server.send(text)
            octets = server.take()
            sent = time.process_time()
            assert client.receive(octets) == text
            receiving += time.process_time() - sent
            sending += sent - began
        return sending, receiving

    # The best of three: a machine that is short of memory takes its time over large pieces now and then.
    large, small = ([cost(size, times) for _ in range(3)] for size, times in ((64 * MIB, 1), (MIB, 64)))
    for number in (0, 1):
        assert min(one[number] for one in large) < 16 * min(one[number] for one in small)


def test_what_passed_leaves_no_memory_behind(identity: Identity) -> None:
    """A session that once read much and is idle now keeps two records' room, not what it read."""
    listener, connector = listener_context(identity.certificate, identity.key), server_context(SslMode.REQUIRE)
    assert connector is not None
    kept = []
    before = 0
    for number in range(41):
        client, server = Tls(connector, server_side=False), Tls(listener, server_side=True)
        shake(client, server)
        kept.append((client, server))
        server.send(bytes(2 * MIB))
        client.receive(server.take())
        if number == 0:
            before = _resident()
    # Kept whole, it would be 2.7 MiB at each end.
    assert _resident() - before < 40 * MIB


def _resident() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


# The end


def test_close_notify_closes_and_what_follows_is_not_read(ends: tuple[Tls, Tls]) -> None:
    client, server = ends
    client.send(b"bye")
    client.close()
    octets = client.take()
    assert server.receive(octets + octets) == b"bye"
    assert server.closed
    assert server.receive(b"anything") == b""
    server.close()
    assert client.receive(server.take()) == b""
    assert client.closed


def test_half_closed_the_other_way_still_works(ends: tuple[Tls, Tls]) -> None:
    client, server = ends
    client.close()
    server.receive(client.take())
    server.send(b"the last rows")
    assert client.receive(server.take()) == b"the last rows"


def test_nothing_can_be_sent_after_close(ends: tuple[Tls, Tls]) -> None:
    client, _ = ends
    client.close()
    with pytest.raises(TlsError, match="shutdown"):
        client.send(b"more")


def test_nothing_is_sent_in_plain_text_before_the_handshake(identity: Identity) -> None:
    server = ours_as_server(identity)
    with pytest.raises(TlsError, match="before the TLS handshake is over"):
        server.send(b"secret")
    server.close()
    assert server.take() == b""


def test_a_changed_byte_ends_it_and_the_peer_is_told(ends: tuple[Tls, Tls]) -> None:
    client, server = ends
    client.send(b"SELECT 1")
    octets = bytearray(client.take())
    octets[-1] ^= 1
    with pytest.raises(TlsError, match="mac"):
        server.receive(bytes(octets))
    assert server.closed
    with pytest.raises(TlsError) as caught:
        client.receive(server.take())
    assert caught.value.alert == "bad record mac"
    assert server.receive(b"more") == b""
    server.close()
    assert server.take() == b""


# Handshakes that fail


@pytest.mark.parametrize(
    ("octets", "message"),
    [
        (b"GET / HTTP/1.1\r\nHost: db\r\n\r\n", "HTTP request"),
        (b"\x00\x00\x00\x08\x04\xd2\x16\x2f", "no TLS record"),
        (bytes(range(256)) * 1024, "no TLS record"),
        (b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", "length"),
    ],
    ids=["HTTP", "SSLRequest", "noise", "short hello"],
)
def test_garbage_instead_of_a_handshake(identity: Identity, octets: bytes, message: str) -> None:
    server = ours_as_server(identity)
    with pytest.raises(TlsError, match=message):
        server.receive(octets)
    assert not server.established
    assert server.closed


def test_half_a_handshake_is_no_handshake(identity: Identity) -> None:
    client, server = ours_as_client(), ours_as_server(identity)
    client.start()
    hello = client.take()
    assert hello[0] == CLIENT_HELLO
    assert server.receive(hello[:-1]) == b""
    assert server.take() == b""
    assert not server.established
    assert not server.closed


def test_the_wrong_authority_is_refused_and_the_server_told(stranger: Authority, identity: Identity) -> None:
    ours, theirs = fail(ours_as_client(SslMode.VERIFY_CA, stranger.root), ours_as_server(identity))
    assert "not accepted: unable to get local issuer certificate" in str(ours)
    assert theirs is not None
    assert theirs.alert == "unknown ca"


def test_an_expired_certificate_is_refused(authority: Authority) -> None:
    old = authority.server("db.example", expired=True)
    ours, theirs = fail(ours_as_client(SslMode.VERIFY_CA, authority.root), ours_as_server(old))
    assert "expired" in str(ours)
    assert theirs is not None
    assert theirs.alert == "certificate expired"


@pytest.mark.parametrize("host", ["db.example", "127.0.0.1", "::1"])
def test_verify_full_accepts_the_names_and_addresses_of_the_certificate(
    authority: Authority, identity: Identity, host: str
) -> None:
    client = ours_as_client(SslMode.VERIFY_FULL, authority.root, host)
    shake(client, ours_as_server(identity))
    assert client.established


@pytest.mark.parametrize("host", ["other.example", "127.0.0.2", "::2", "x.db.example"])
@pytest.mark.parametrize("mode", [SslMode.VERIFY_FULL, SslMode.VERIFY_CA])
def test_the_wrong_name_is_refused_by_verify_full_alone(
    authority: Authority, identity: Identity, host: str, mode: SslMode
) -> None:
    ours, _ = fail(ours_as_client(mode, authority.root, host), ours_as_server(identity))
    if mode is SslMode.VERIFY_CA:
        assert ours is None
    else:
        assert "mismatch" in str(ours)


def test_verify_full_without_a_name_is_refused(authority: Authority) -> None:
    context = server_context(SslMode.VERIFY_FULL, root=authority.root)
    assert context is not None
    for hostname in (None, ""):
        with pytest.raises(TlsError, match="none is given"):
            Tls(context, server_side=False, hostname=hostname)


@pytest.mark.parametrize("mode", [SslMode.PREFER, SslMode.REQUIRE])
def test_without_an_authority_prefer_and_require_take_any_certificate(identity: Identity, mode: SslMode) -> None:
    client = ours_as_client(mode, host="other.example")
    shake(client, ours_as_server(identity))
    assert client.established


def test_require_with_an_authority_verifies(stranger: Authority, identity: Identity) -> None:
    ours, _ = fail(ours_as_client(SslMode.REQUIRE, stranger.root), ours_as_server(identity))
    assert "not accepted" in str(ours)


def test_verify_full_without_an_authority_asks_the_operating_system(
    authority: Authority, identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, _ = fail(ours_as_client(SslMode.VERIFY_FULL), ours_as_server(identity))
    assert "not accepted" in str(ours)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.root))
    shake(ours_as_client(SslMode.VERIFY_FULL), ours_as_server(identity))


def test_a_clients_certificate_is_seen(authority: Authority, identity: Identity) -> None:
    kim = authority.client("support_kim")
    client, server = ours_as_client(identity=kim), ours_as_server(identity, authority.root)
    shake(client, server)
    assert server.peer_certificate() == kim.der


def test_a_client_may_have_no_certificate(authority: Authority, identity: Identity) -> None:
    client, server = ours_as_client(), ours_as_server(identity, authority.root)
    shake(client, server)
    assert server.peer_certificate() is None


def test_a_clients_certificate_from_elsewhere_is_refused_and_the_client_told(
    authority: Authority, stranger: Authority, identity: Identity
) -> None:
    client, server = ours_as_client(identity=stranger.client("support_kim")), ours_as_server(identity, authority.root)
    theirs, ours = fail(client, server)
    assert "the peer's certificate is not accepted" in str(ours)
    assert not server.established
    assert theirs is not None
    assert theirs.alert == "unknown ca"


# The TLS of others


@contextmanager
def python_peer(context: ssl.SSLContext, work: Callable[[ssl.SSLSocket], Any], **how: Any) -> Iterator[Any]:
    """Python's TLS on the other end of a socket, doing ``work``; gives our end and what became of theirs."""
    here, there = socket.socketpair()
    there.settimeout(SECONDS)

    def run() -> Any:
        with there, context.wrap_socket(there, **how) as wrapped:
            return work(wrapped)

    with here, ThreadPoolExecutor(1) as pool:
        yield here, pool.submit(run)


def echo(sock: ssl.SSLSocket) -> tuple[str | None, str | None]:
    while data := sock.recv(65536):
        sock.sendall(data)
    session = sock.session
    assert session is None or not session.has_ticket
    return sock.version(), sock.selected_alpn_protocol()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_pythons_client(authority: Authority, identity: Identity, version: ssl.TLSVersion) -> None:
    theirs = ssl.create_default_context(cafile=str(authority.root))
    theirs.minimum_version = theirs.maximum_version = version
    theirs.set_alpn_protocols(["http/1.1", "postgresql"])
    with python_peer(theirs, echo, server_hostname="db.example") as (sock, outcome):
        ours = OnSocket(ours_as_server(identity), sock)
        ours.shake()
        for _ in range(8):
            ours.send(TEXT[: len(TEXT) // 3])
            assert ours.read(lambda got: len(got) >= len(TEXT) // 3) == TEXT[: len(TEXT) // 3]
        ours.tls.close()
        ours.flush()
        assert outcome.result(SECONDS) == (version.name.replace("_", "."), "postgresql")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_pythons_server(authority: Authority, identity: Identity, version: ssl.TLSVersion) -> None:
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(identity.certificate, identity.key)
    theirs.minimum_version = theirs.maximum_version = version
    with python_peer(theirs, echo, server_side=True) as (sock, outcome):
        ours = OnSocket(ours_as_client(SslMode.VERIFY_FULL, authority.root), sock)
        ours.start()
        ours.shake()
        ours.send(b"hello")
        assert ours.read(lambda got: len(got) >= 5) == b"hello"
        assert ours.tls.alpn is None
        ours.tls.close()
        ours.flush()
        assert outcome.result(SECONDS)[1] is None


def test_the_peers_close_notify_is_heard(identity: Identity) -> None:
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    theirs.check_hostname, theirs.verify_mode = False, ssl.CERT_NONE

    def leave(sock: ssl.SSLSocket) -> None:
        sock.sendall(b"done")
        sock.unwrap()

    with python_peer(theirs, leave) as (sock, outcome):
        ours = OnSocket(ours_as_server(identity), sock)
        assert ours.read(lambda _: False) == b"done"
        assert ours.tls.closed
        ours.tls.close()
        ours.flush()
        outcome.result(SECONDS)


def s_client(port: int, *options: str, text: str = "") -> "subprocess.Popen[str]":
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", *options]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, text=True, stdin=pipe, stdout=pipe, stderr=pipe)
    assert process.stdin is not None
    process.stdin.write(text)
    process.stdin.flush()
    return process


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.settimeout(SECONDS)
        yield sock


def accept(listener: socket.socket, tls: Tls) -> OnSocket:
    return OnSocket(tls, listener.accept()[0])


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_older_versions_are_refused(identity: Identity, listener: socket.socket, version: str) -> None:
    port = listener.getsockname()[1]
    theirs = s_client(port, version, "-cipher", "DEFAULT:@SECLEVEL=0")
    ours = accept(listener, ours_as_server(identity))
    with ours.sock:
        with pytest.raises(TlsError, match="offers no version of TLS that is accepted here"):
            ours.shake()
        ours.sock.shutdown(socket.SHUT_WR)
        assert "alert protocol version" in theirs.communicate(timeout=SECONDS)[1]


def test_no_renegotiation(identity: Identity, listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    theirs = s_client(port, "-tls1_2", "-legacy_renegotiation", text="R\n")
    ours = accept(listener, ours_as_server(identity))
    with ours.sock, pytest.raises(TlsError, match="alert 'handshake failure'"):
        ours.read(lambda _: False)  # s_client insists, and leaves
    assert "no renegotiation" in theirs.communicate(timeout=SECONDS)[1]


# libpq, as far as a proxy has to go with it to be heard

SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
FATAL = b"SFATAL\0VFATAL\0C28000\0Mthe proxy was heard over TLS\0\0"
REFUSAL = b"E" + (4 + len(FATAL)).to_bytes(4) + FATAL


@pytest.fixture
def refusing(listener: socket.socket, identity: Identity) -> Iterator[tuple[int, list[Tls]]]:
    """A server that takes SSLRequest or direct TLS and refuses whoever is heard; gives its port and what it has met."""
    met: list[Tls] = []

    def serve() -> None:
        while True:
            try:
                sock = listener.accept()[0]
            except OSError:
                return
            with sock:
                ours = OnSocket(ours_as_server(identity), sock)
                met.append(ours.tls)
                if sock.recv(1, socket.MSG_PEEK)[0] != CLIENT_HELLO:
                    assert sock.recv(len(SSL_REQUEST)) == SSL_REQUEST
                    sock.sendall(b"S")
                try:
                    ours.read(lambda got: b"user\0" in got)
                    ours.send(REFUSAL)
                except (TlsError, OSError):
                    continue

    thread = threading.Thread(target=serve)
    thread.start()
    yield listener.getsockname()[1], met
    listener.shutdown(socket.SHUT_RDWR)
    thread.join(SECONDS)


@pytest.mark.parametrize("negotiation", ["postgres", "direct"])
def test_libpq_is_heard(authority: Authority, refusing: tuple[int, list[Tls]], negotiation: str) -> None:
    port, met = refusing
    with pytest.raises(psycopg.OperationalError, match="the proxy was heard over TLS"):
        psycopg.connect(
            f"host=127.0.0.1 port={port} user=kim sslmode=verify-full sslrootcert={authority.root}"
            f" sslnegotiation={negotiation} connect_timeout=20"
        )
    assert met[0].alpn == "postgresql"


def test_libpq_tells_why_it_goes(stranger: Authority, refusing: tuple[int, list[Tls]]) -> None:
    port, _ = refusing
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        psycopg.connect(
            f"host=127.0.0.1 port={port} user=kim sslmode=verify-full sslrootcert={stranger.root} connect_timeout=20"
        )
