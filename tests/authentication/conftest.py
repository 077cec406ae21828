"""Real servers that ask for passwords, and a certificate."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from authentication.auth_servers import HBA, Certificate, TlsServer, create_users, make_certificate
from rowgate.demo.postgres import ThrowawayPostgres, free_port
from sql.write_pure_builtins import DEBIAN, NOBODY
from support.raw_client import Place, RawClient


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"), "-newkey", "rsa:2048", "-sha256")


@pytest.fixture(scope="session")
def asking() -> Iterator[ThrowawayPostgres]:
    """PostgreSQL 18 that asks every user but the superuser for a password."""
    with ThrowawayPostgres({"password_encryption": "scram-sha-256", "md5_password_warnings": "off"}, HBA) as server:
        with RawClient(server.port) as client:
            client.start()
            create_users(client)
        yield server


@pytest.fixture(scope="session")
def tls_server(certificate: Certificate) -> Iterator[TlsServer]:
    """A server with OpenSSL, which the wheel's is not built with: it offers SCRAM-SHA-256-PLUS."""
    if not DEBIAN.is_dir():
        pytest.skip("PostgreSQL 15 is not installed")
    folder = Path(tempfile.mkdtemp(prefix="rg-", dir="/tmp"))
    for source in (certificate.certificate, certificate.key):
        shutil.copy(source, folder)
    other: dict[str, Any] = {}
    if os.geteuid() == 0:
        other = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        for path in (folder, *folder.iterdir()):
            os.chown(path, NOBODY, NOBODY)
    (folder / "server.key").chmod(0o600)
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "cwd": folder, **other}
    data, port = folder / "d", free_port()
    subprocess.run([DEBIAN / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8"], check=True, **quiet)
    (data / "pg_hba.conf").write_text(HBA)
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": str(folder),
        "ssl": "on",
        "ssl_cert_file": str(folder / "server.crt"),
        "ssl_key_file": str(folder / "server.key"),
    }
    with (data / "postgresql.conf").open("a") as file:
        file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
    control: list[str | Path] = [DEBIAN / "pg_ctl", "-D", data, "-w", "-l", folder / "log"]
    subprocess.run([*control, "start"], check=True, **quiet)
    try:
        server = TlsServer(port, folder / f".s.PGSQL.{port}")
        with RawClient(Place(path=server.socket)) as client:
            client.start()
            client.query("CREATE ROLE kim LOGIN PASSWORD 'right'; CREATE ROLE clear_user LOGIN PASSWORD 'right'")
        yield server
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], check=True, **quiet)
        shutil.rmtree(folder, ignore_errors=True)
