"""Proxies in front of the real server, shared by the tests of a module; users of a test's own."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rowgate.demo.postgres import ThrowawayPostgres
from support.proxy import Proxy
from support.raw_client import Place, RawClient
from support.raw_conversations import SCHEMA
from support.raw_policies import ENFORCED

METERED_SCHEMA = """
create table met_people (id int primary key, name text, email text);
insert into met_people select n, 'name ' || n, 'mail' || n || '@example.org' from generate_series(1, 100000) n;
create view met_view as select id, name from met_people;
create table met_other (id int primary key, person int);
insert into met_other select n, n from generate_series(1, 2000) n;
create table met_log (n int);
create function met_writes(n int) returns int volatile language plpgsql as
  $$ begin insert into met_log values (n); return n; end $$;
create procedure met_procedure(inout n int) language plpgsql as
  $$ begin insert into met_log values (n); n := n + 1; end $$;
create schema met_one;
create table met_one.met_swapped (id int, name text);
insert into met_one.met_swapped select n, 'x' from generate_series(1, 300) n;
create schema met_two;
create view met_two.met_swapped as select id, name from met_people;
grant usage on schema met_one, met_two to public;
grant select on met_one.met_swapped, met_two.met_swapped to public;
grant all on all tables in schema public to public;
grant create on schema public to public;
"""


@pytest.fixture(scope="session")
def server(postgres: ThrowawayPostgres) -> ThrowawayPostgres:
    """The server with the tables that integration tests read."""
    with RawClient(postgres.port) as client:
        client.start()
        for script in (SCHEMA, METERED_SCHEMA):
            answer = client.query(script)
            assert not [message for message in answer if message.type == "E"], answer
    return postgres


@pytest.fixture(scope="module")
def proxy(server: ThrowawayPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A proxy that enforces ``ENFORCED``; a test is limited through the users it makes."""
    with Proxy(tmp_path_factory.mktemp("enforced"), server.url(), ENFORCED) as running:
        yield running


@pytest.fixture(scope="session")
def direct(server: ThrowawayPostgres) -> Iterator[RawClient]:
    """A session of the superuser that knows nothing of the proxy."""
    with RawClient(server.port) as client:
        yield client.start()


@pytest.fixture(scope="session")
def fresh_user(direct: RawClient) -> Callable[[str], str]:
    """Return a maker of users nobody has been before; the kind says how the policy limits them."""
    numbers = itertools.count(1)

    def make(kind: str) -> str:
        user = f"{kind}_{next(numbers)}"
        answer = direct.query(f"create role {user} login")
        assert answer[0].type == "C", answer
        return user

    return make


@pytest.fixture
def place(proxy: Proxy) -> Place:
    """Where the shared proxy listens."""
    return Place(proxy.port)


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """A directory for a proxy of the test's own."""
    return tmp_path
