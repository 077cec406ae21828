"""What people type as addresses, compared with what libpq itself reads in it."""

from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict

from rowgate.network.address import (
    MAX_HOSTS,
    PLAIN,
    Address,
    AddressError,
    Negotiation,
    ServerTls,
    SslMode,
    Target,
    Upstream,
    parse_listen,
    parse_upstream,
)

SECRET = "s3cr3t"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:6432", Address("127.0.0.1", 6432)),
        ("[::1]:6432", Address("::1", 6432)),
        ("localhost:0", Address("localhost", 0)),
        ("/run/rowgate", Address("", 5432, "/run/rowgate/.s.PGSQL.5432")),
        ("/run/.s.PGSQL.6432", Address("", 6432, "/run/.s.PGSQL.6432")),
    ],
)
def test_where_to_listen(text: str, address: Address) -> None:
    assert parse_listen(text) == address


@pytest.mark.parametrize("text", ["6432", ":6432", "host:", "host:65536", "host:x", "host:-1", "/run/.s.PGSQL.x"])
def test_where_nobody_can_listen(text: str) -> None:
    with pytest.raises(AddressError, match="expected") as refused:
        parse_listen(text)
    assert repr(text) in str(refused.value)


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("postgresql://", "127.0.0.1:5432"),
        ("postgresql:///shop", "127.0.0.1:5432"),
        ("postgres://db.example:5433", "db.example:5433"),
        ("postgresql://h1:5432,h2:5433,[::1]:5434/shop", "h1:5432,h2:5433,[::1]:5434"),
        ("postgresql://app:pw@h1,h2", "h1:5432,h2:5432"),
        ("postgresql://h1,h1:5432", "h1:5432"),
        ("postgresql://?host=h1,h2&port=5433", "h1:5433,h2:5433"),
        ("postgresql://?host=h1,h2,h3&port=5433,,5435", "h1:5433,h2:5432,h3:5435"),
        ("postgresql://?host=::1,h2", "[::1]:5432,h2:5432"),
        ("postgresql://ignored:5433/shop?host=h1", "h1:5433"),
        ("postgresql:///shop?host=/var/run/postgresql", "/var/run/postgresql/.s.PGSQL.5432"),
        ("postgresql://%2Fvar%2Frun%2Fpostgresql:5433/shop", "/var/run/postgresql/.s.PGSQL.5433"),
        ("postgresql://?host=/run/pg,h2&port=5433,5434", "/run/pg/.s.PGSQL.5433,h2:5434"),
        ("postgresql://[fe80::1%25eth0]:5433", "[fe80::1%eth0]:5433"),
        ("/run/pg", "/run/pg/.s.PGSQL.5432"),
        ("/run/pg/.s.PGSQL.5433", "/run/pg/.s.PGSQL.5433"),
    ],
)
def test_the_hosts_of_an_upstream(text: str, addresses: str) -> None:
    upstream = parse_upstream(text)
    assert str(upstream) == addresses
    assert upstream.address == upstream.addresses[0]


def test_everything_a_url_can_say() -> None:
    text = (
        "postgresql://app:p%40ss%2Fw+rd@h1,h2:5433/sh%20op?sslmode=verify-full&sslrootcert=/etc/ca.pem"
        "&sslcert=/etc/c.pem&sslkey=/etc/k.pem&sslnegotiation=direct&target_session_attrs=read-write"
        "&connect_timeout=3&load_balance_hosts=random"
    )
    assert parse_upstream(text) == Upstream(
        (Address("h1", 5432), Address("h2", 5433)),
        user="app",
        password="p@ss/w+rd",
        database="sh op",
        tls=ServerTls(
            SslMode.VERIFY_FULL,
            Path("/etc/ca.pem"),
            Path("/etc/c.pem"),
            Path("/etc/k.pem"),
            negotiation=Negotiation.DIRECT,
        ),
        target=Target.READ_WRITE,
        connect_seconds=3.0,
        balance=True,
    )


def test_what_is_not_said_is_as_libpq_has_it() -> None:
    upstream = parse_upstream("postgresql://h1")
    assert (upstream.tls, upstream.target) == (ServerTls(SslMode.PREFER), Target.ANY)
    assert (upstream.connect_seconds, upstream.balance) == (None, False)
    assert parse_upstream("postgresql://h1?connect_timeout=0").connect_seconds is None


@pytest.mark.parametrize(
    ("parameters", "tls"),
    [
        ("sslmode=disable", PLAIN),
        ("sslmode=prefer", ServerTls(SslMode.PREFER)),
        ("sslmode=require", ServerTls(SslMode.REQUIRE)),
        ("sslmode=require&sslnegotiation=direct", ServerTls(SslMode.REQUIRE, negotiation=Negotiation.DIRECT)),
        ("sslmode=require&sslrootcert=/ca", ServerTls(SslMode.VERIFY_CA, Path("/ca"))),
        ("sslmode=verify-ca&sslrootcert=/ca", ServerTls(SslMode.VERIFY_CA, Path("/ca"))),
        ("sslmode=verify-full&sslrootcert=system", ServerTls(SslMode.VERIFY_FULL)),
        ("sslrootcert=system", ServerTls(SslMode.VERIFY_FULL)),
    ],
)
def test_how_the_way_to_the_server_is_protected(parameters: str, tls: ServerTls) -> None:
    assert parse_upstream(f"postgresql://h1?{parameters}").tls == tls


def test_a_unix_socket_has_no_tls() -> None:
    socket, host = Address("", 5432, "/run/pg/.s.PGSQL.5432"), Address("h2", 5432)
    upstream = parse_upstream("postgresql://?host=/run/pg,h2&sslmode=require")
    assert upstream.addresses == (socket, host)
    assert (upstream.tls_to(socket), upstream.tls_to(host)) == (PLAIN, ServerTls(SslMode.REQUIRE))
    for text in ("/run/pg", "postgresql://?host=/run/pg"):
        assert parse_upstream(text).tls == PLAIN


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("h1:5432", "expected postgresql://host:port"),
        ("mysql://h1", "expected postgresql://host:port"),
        ("host=h1 password=s3cr3t", "expected postgresql://host:port"),
        ("postgresql://h1:0", "port of 'h1'"),
        ("postgresql://h1:65536", "port of 'h1'"),
        ("postgresql://h1:99999999999999999999", "port of 'h1'"),
        ("postgresql://h1:+5", "port of 'h1'"),
        ("postgresql://::1", "write an IPv6 address in brackets"),
        ("postgresql://[::1", r"expected \[IPv6 address\]:port"),
        ("postgresql://[::1]5432", r"expected \[IPv6 address\]:port"),
        ("postgresql://[h1]:5432", r"expected \[IPv6 address\]:port"),
        ("postgresql://h1,", "expected a name"),
        ("postgresql://h1,,h2", "expected a name"),
        ("postgresql://h%201", "expected a name"),
        (f"postgresql://{'h' * 300}", "expected a name"),
        (f"postgresql://{','.join(f'h{n}' for n in range(MAX_HOSTS + 1))}", "17 hosts: expected 16 at most"),
        ("postgresql://h1,h2,h3?port=1,2", "3 hosts and 2 ports"),
        ("postgresql://h1:5432,h2:5433?host=h3", None),  # see below: one host, two ports
        ("postgresql://h%zz", "a wrong escape"),
        ("postgresql://h1/%ff", "a wrong escape"),
        ("postgresql://h1/a%00b", "a wrong escape"),
        ("postgresql://h1?sslmod=require", "'sslmod' is unknown: expected one of host, port, .*sslmode"),
        ("postgresql://h1?SSLMODE=require", "'SSLMODE' is unknown"),
        ("postgresql://h1?application_name=x", "'application_name' is unknown"),
        ("postgresql://h1?sslmode", "expected sslmode=value"),
        ("postgresql://h1?sslmode=a=b", "expected sslmode=value"),
        ("postgresql://h1?sslmode=require&sslmode=disable", "'sslmode' is given twice"),
        ("postgresql://h1?&", "'' is unknown"),
        ("postgresql://h1?sslmode=", "expected one of disable, prefer, require, verify-ca, verify-full"),
        ("postgresql://h1?sslmode=Require", "expected one of disable"),
        ("postgresql://h1?sslmode=allow", "allow begins in plain text"),
        ("postgresql://h1?sslmode=verify-full", "without sslrootcert"),
        ("postgresql://h1?sslmode=verify-ca", "without sslrootcert"),
        ("postgresql://h1?sslrootcert=/ca", "sslrootcert is without effect under sslmode=prefer"),
        ("postgresql://h1?sslmode=disable&sslrootcert=/ca", "without effect under sslmode=disable"),
        ("postgresql://h1?sslmode=verify-full&sslrootcert=", "sslrootcert is empty"),
        ("postgresql://h1?sslmode=verify-ca&sslrootcert=system", "proves nothing with sslmode=verify-ca"),
        ("postgresql://h1?sslmode=require&sslrootcert=system", "proves nothing with sslmode=require"),
        ("postgresql://h1?sslcert=/c&sslkey=/k", "sslcert is without effect"),
        ("postgresql://h1?sslmode=require&sslcert=/c", "expected both or neither"),
        ("postgresql://h1?sslmode=require&sslkey=/k", "expected both or neither"),
        ("postgresql://h1?sslnegotiation=direct", "direct cannot be had with sslmode=prefer"),
        ("postgresql://h1?sslnegotiation=tls", "expected one of postgres, direct"),
        ("postgresql://h1?target_session_attrs=master", "expected one of any, read-write, read-only, primary, standby"),
        ("postgresql://h1?target_session_attrs=primary", "needs a user"),
        ("postgresql://h1?connect_timeout=soon", "expected whole seconds"),
        ("postgresql://h1?connect_timeout=-1", "expected whole seconds"),
        ("postgresql://h1?connect_timeout=99999", "expected whole seconds"),
        ("postgresql://h1?load_balance_hosts=yes", "expected one of disable, random"),
    ],
)
def test_what_cannot_be_understood_is_refused(text: str, words: str | None) -> None:
    with pytest.raises(AddressError, match=words or "1 hosts and 2 ports") as refused:
        parse_upstream(text)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        f"postgresql://app:{SECRET}",
        f"postgresql://app:{SECRET}/shop",
        f"postgresql://app:x@{SECRET}@h1/shop",
        f"postgresql://app:/{SECRET}@h1/shop",
        f"postgresql://app:x/{SECRET}@h1/shop",
        f"postgresql://app:x?{SECRET}@h1/shop",
        f"postgresql://app:x?sslmode={SECRET}@h1/shop",
        f"postgresql://app:%zz{SECRET}@h1/shop",
        f"postgresql://app:{SECRET}@h1:x/shop",
        f"postgresql://h1?password=x&{SECRET}",
        f"postgresql://h1?password=x={SECRET}",
        f"postgresql://h1?password={SECRET}%zz",
    ],
)
def test_no_error_quotes_a_password(text: str) -> None:
    with pytest.raises(AddressError) as refused:
        parse_upstream(text)
    assert SECRET not in str(refused.value)


def test_a_password_is_not_shown() -> None:
    upstream = parse_upstream(f"postgresql://app:{SECRET}@h1/shop")
    assert upstream.password == SECRET
    assert SECRET not in repr(upstream) + str(upstream)


NAMES = st.text(min_size=1, max_size=12).filter(lambda text: "\0" not in text)
HOSTS = st.sampled_from(["h1", "db.example", "192.0.2.1", "[::1]", "[2001:db8::7]", "%2Frun%2Fpg"])
HOST_AND_PORT = st.tuples(HOSTS, st.integers(1, 65_535) | st.none())


@given(st.lists(HOST_AND_PORT, min_size=1, max_size=5), st.tuples(NAMES, NAMES, NAMES), st.booleans())
def test_a_url_means_what_it_means_to_libpq(
    hosts: list[tuple[str, int | None]], login: tuple[str, str, str], in_query: bool
) -> None:
    listed = ",".join(host if port is None else f"{host}:{port}" for host, port in hosts)
    user, password, database = (quote(text, safe="") for text in login)
    text = (
        f"postgresql://{listed}?user={user}&password={password}&dbname={database}"
        if in_query
        else f"postgresql://{user}:{password}@{listed}/{database}"
    )
    theirs, ours = conninfo_to_dict(text), parse_upstream(text)
    assert (ours.user, ours.password, ours.database) == (theirs["user"], theirs["password"], theirs["dbname"]) == login
    ports = str(theirs.get("port", "")).split(",")
    pairs = zip(str(theirs["host"]).split(","), ports * len(hosts) if len(ports) == 1 else ports, strict=True)
    expected = [
        f"{host}/.s.PGSQL.{port or 5432}" if host.startswith("/") else str(Address(host, int(port or 5432)))
        for host, port in pairs
    ]
    assert str(ours) == ",".join(dict.fromkeys(expected))


@given(st.text(alphabet="postgrequl:/@,[]?&=%41 .", max_size=40).map("postgresql://".__add__))
def test_any_text_is_an_upstream_or_refused(text: str) -> None:
    try:
        upstream = parse_upstream(text)
    except AddressError:
        return
    assert 1 <= len(upstream.addresses) <= MAX_HOSTS
