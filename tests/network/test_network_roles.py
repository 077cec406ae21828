"""Servers asked for their role as an upstream's TLS demands: by Debian's PostgreSQL, which has OpenSSL."""

import asyncio
import selectors
from collections.abc import Iterator
from pathlib import Path

import pytest

from rowgate.network.address import Address, Target, parse_upstream
from rowgate.network.login import Login
from rowgate.network.roles import ProbeError, Role, misfit, role_probe
from support.certificates import Authority
from support.debian_postgres import BINARIES, DebianPostgres

NAME = "db.example"
PASSWORD = "s3cr3t"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def server(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DebianPostgres]:
    if not BINARIES.is_dir():
        pytest.skip("PostgreSQL 15 is not installed")
    hba = (
        "hostssl all app 127.0.0.1/32 scram-sha-256",
        "hostssl all shown 127.0.0.1/32 cert",
        "hostnossl all plain 127.0.0.1/32 trust",
    )
    running = DebianPostgres(hba)
    running.make()
    identity = authority.server(NAME)
    settings = {
        "ssl": "on",
        "ssl_cert_file": running.give(identity.certificate, "server.pem"),
        "ssl_key_file": running.give(identity.key, "server.key"),
        "ssl_ca_file": running.give(authority.root, "root.pem"),
    }
    with (running.data / "postgresql.conf").open("a") as file:
        file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
    running.start()
    try:
        running.execute(
            f"CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'", "CREATE ROLE shown LOGIN; CREATE ROLE plain LOGIN"
        )
        yield running
    finally:
        running.stop("immediate")


async def ask(server: DebianPostgres, parameters: str, *, user: str = "app", name: str = NAME) -> Role:
    """Ask the server for its role, at the address that its name was found to have."""
    upstream = parse_upstream(f"postgresql://{user}:{PASSWORD}@{NAME}:{server.port}?{parameters}")
    try:
        return await role_probe(Login(upstream), 30.0)(Address("127.0.0.1", server.port, name=name))
    finally:
        await sockets_closed()


async def sockets_closed() -> None:
    """Wait for the end of TLS connections, in which the server has a part: the test's loop ends with the test."""
    selector: selectors.BaseSelector = asyncio.get_running_loop()._selector  # type: ignore[attr-defined]
    while len(selector.get_map()) > 1:  # noqa: ASYNC110 - the one that is left is the loop's own
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "parameters",
    [
        "sslmode=prefer",
        "sslmode=require",
        "sslmode=verify-ca&sslrootcert={root}",
        "sslmode=verify-full&sslrootcert={root}",
    ],
)
async def test_a_server_is_asked_over_tls(server: DebianPostgres, authority: Authority, parameters: str) -> None:
    assert await ask(server, parameters.format(root=authority.root)) == Role(standby=False, read_only=False)


async def test_the_certificate_must_have_the_name_and_not_the_address(
    server: DebianPostgres, authority: Authority
) -> None:
    parameters = f"sslmode=verify-full&sslrootcert={authority.root}"
    with pytest.raises(ProbeError, match=r"cannot be reached .*other\.example"):
        await ask(server, parameters, name="other.example")
    with pytest.raises(ProbeError, match="cannot be reached"):
        await ask(server, parameters, name="")


async def test_another_authoritys_certificate_is_refused(server: DebianPostgres, tmp_path: Path) -> None:
    other = Authority(tmp_path)
    with pytest.raises(ProbeError, match=r"cannot be reached .*certificate verify failed"):
        await ask(server, f"sslmode=verify-ca&sslrootcert={other.root}")


async def test_a_client_certificate_is_shown(server: DebianPostgres, authority: Authority) -> None:
    identity = authority.client("shown")
    parameters = f"sslmode=require&sslcert={identity.certificate}&sslkey={identity.key}"
    assert await ask(server, parameters, user="shown") == Role(standby=False, read_only=False)
    with pytest.raises(ProbeError, match="did not let 'shown' in"):
        await ask(server, "sslmode=require", user="shown")


async def test_prefer_falls_back_to_plain_text_and_require_does_not(server: DebianPostgres) -> None:
    assert await ask(server, "sslmode=prefer", user="plain") == Role(standby=False, read_only=False)
    with pytest.raises(ProbeError, match="did not let 'plain' in"):
        await ask(server, "sslmode=require", user="plain")


async def test_plain_text_where_none_is_taken_says_so(server: DebianPostgres) -> None:
    with pytest.raises(
        ProbeError, match=r"did not let 'app' in \(28000: no pg_hba.conf entry .*no encryption\)"
    ) as refused:
        await ask(server, "sslmode=disable")
    assert PASSWORD not in str(refused.value)


@pytest.mark.parametrize(
    ("target", "primary", "standby", "locked"),
    [
        (Target.ANY, "", "", ""),
        (Target.READ_WRITE, "", "is read-only", "is read-only"),
        (Target.READ_ONLY, "is read-write", "", ""),
        (Target.PRIMARY, "", "is a standby", ""),
        (Target.STANDBY, "is a primary", "", "is a primary"),
        (Target.PREFER_STANDBY, "is a primary", "", "is a primary"),
    ],
)
def test_why_a_role_will_not_do(target: Target, primary: str, standby: str, locked: str) -> None:
    assert misfit(Role(standby=False, read_only=False), target) == primary
    assert misfit(Role(standby=True, read_only=False), target) == standby  # as a standby of PostgreSQL's says
    assert misfit(Role(standby=False, read_only=True), target) == locked
