"""Each hole is planted in a real server, found, mended with the words that the doctor prints, and gone."""

import asyncio
from dataclasses import dataclass
from ipaddress import ip_network

import asyncpg
import pytest

from doctor.patient import POLICY, SECRET, Patient
from policy.policies import snapshot
from rowgate.authentication import scram
from rowgate.doctor.examination import HOLES, WARNINGS
from rowgate.doctor.facts import Setup
from rowgate.doctor.finding import Grade

SALT = b"sixteen bytes .."


def verifier(password: bytes) -> str:
    """Return a stored secret that PostgreSQL itself would not store for an empty password."""
    keys = scram.derive_keys(password, SALT, 4096)
    parts = [scram.encode(octets).decode() for octets in (SALT, keys.stored_key, keys.server_key)]
    return f"SCRAM-SHA-256$4096:{parts[0]}${parts[1]}:{parts[2]}"


@dataclass(frozen=True)
class Hole:
    found: str
    plant: tuple[str, ...]
    grade: Grade = Grade.HOLE
    database: str = "postgres"
    clean: tuple[str, ...] = ()
    older: bool = False
    """Only where there is contrib, in Debian's 15."""


HOLES_PLANTED = (
    # who may do more than read tables
    Hole("superuser eve: client rule 'others'", ("CREATE ROLE eve SUPERUSER LOGIN",), clean=("DROP ROLE eve",)),
    Hole("eve has REPLICATION", ("CREATE ROLE eve LOGIN REPLICATION",), clean=("DROP ROLE eve",)),
    Hole("eve has BYPASSRLS", ("CREATE ROLE eve LOGIN BYPASSRLS",), Grade.WARNING, clean=("DROP ROLE eve",)),
    Hole(
        "eve is in pg_execute_server_program",
        ("CREATE ROLE eve LOGIN IN ROLE pg_execute_server_program",),
        clean=("DROP ROLE eve",),
    ),
    Hole(
        "team is in pg_read_server_files, and through it eve",
        ("CREATE ROLE team IN ROLE pg_read_server_files", "CREATE ROLE eve LOGIN IN ROLE team"),
        clean=("DROP ROLE eve", "DROP ROLE team"),
    ),
    Hole(
        "eve is in pg_read_all_data",
        ("CREATE ROLE eve LOGIN IN ROLE pg_read_all_data",),
        Grade.WARNING,
        clean=("DROP ROLE eve",),
    ),
    Hole(
        "eve is in pg_signal_backend",
        ("CREATE ROLE eve LOGIN IN ROLE pg_signal_backend",),
        Grade.WARNING,
        clean=("DROP ROLE eve",),
    ),
    Hole(
        'Eve "the" O\'Neil has REPLICATION',
        ("""CREATE ROLE "Eve ""the"" O'Neil" LOGIN REPLICATION""",),
        clean=("""DROP ROLE "Eve ""the"" O'Neil" """,),
    ),
    # passwords
    Hole(
        "password_encryption is md5",
        ("ALTER SYSTEM SET password_encryption = 'md5'", "SELECT pg_reload_conf()"),
        Grade.WARNING,
    ),
    Hole("the password of shop_app is the user's name", ("ALTER ROLE shop_app PASSWORD 'shop_app'",)),
    Hole(
        "the password of shop_app is empty",
        (f"UPDATE pg_authid SET rolpassword = '{verifier(b'')}' WHERE rolname = 'shop_app'",),
    ),
    Hole(
        "the password of shop_app is the user's name",
        ("SET password_encryption = 'md5'", "ALTER ROLE shop_app PASSWORD 'shop_app'"),
    ),
    # ways out of the database
    Hole("extension dblink", ("CREATE EXTENSION dblink",), older=True),
    Hole("extension dblink", ("CREATE EXTENSION dblink",), database="template1", older=True),
    Hole("extension postgres_fdw", ("CREATE EXTENSION postgres_fdw",), Grade.WARNING, older=True),
    Hole("extension file_fdw", ("CREATE EXTENSION file_fdw",), Grade.WARNING, older=True),
    Hole("extension adminpack", ("CREATE EXTENSION adminpack",), Grade.WARNING, older=True),
    Hole("untrusted language plevil", ("CREATE LANGUAGE plevil HANDLER plpgsql_call_handler",), Grade.WARNING),
    Hole(
        "public.evil(), in plevil, may be called by everybody",
        (
            "CREATE LANGUAGE plevil HANDLER plpgsql_call_handler",
            "CREATE FUNCTION evil() RETURNS int LANGUAGE plevil AS 'BEGIN RETURN 1; END'",
        ),
        clean=("DROP LANGUAGE plevil CASCADE",),
    ),
    Hole(
        "public.evil(), in c, may be called by everybody",
        ("CREATE FUNCTION evil() RETURNS int LANGUAGE c AS '$libdir/plpgsql', 'plpgsql_call_handler'",),
        clean=("DROP FUNCTION evil()",),
    ),
    Hole(
        "foreign server elsewhere (anything), for PUBLIC",
        (
            "CREATE FOREIGN DATA WRAPPER anything",
            "CREATE SERVER elsewhere FOREIGN DATA WRAPPER anything",
            "GRANT USAGE ON FOREIGN SERVER elsewhere TO PUBLIC",
        ),
        Grade.WARNING,
        clean=("DROP FOREIGN DATA WRAPPER anything",),
    ),
    Hole("publication everything", ("CREATE PUBLICATION everything FOR ALL TABLES",), Grade.WARNING),
    Hole(
        "subscription elsewhere",
        (
            """CREATE SUBSCRIPTION elsewhere CONNECTION 'host=127.0.0.1 dbname=x' PUBLICATION y
               WITH (connect = false, slot_name = NONE)""",
        ),
        Grade.WARNING,
        database="template1",
    ),
    Hole(
        "replication slot thief (the whole cluster), not in use",
        ("SELECT pg_create_physical_replication_slot('thief')",),
        Grade.WARNING,
    ),
    Hole("PUBLIC may call pg_read_file(text)", ("GRANT EXECUTE ON FUNCTION pg_read_file(text) TO PUBLIC",)),
    Hole("shop_app may call lo_import(text)", ("GRANT EXECUTE ON FUNCTION lo_import(text) TO shop_app",)),
    # functions that act as superusers
    Hole(
        "public.kind(), SECURITY DEFINER, owner postgres (superuser), may be called by everybody",
        ("CREATE FUNCTION kind() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",),
        clean=("DROP FUNCTION kind()",),
    ),
    Hole(
        "public.kind(integer), SECURITY DEFINER",
        ("CREATE PROCEDURE kind(int) LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS 'SELECT 1'",),
        Grade.WARNING,
        clean=("DROP PROCEDURE kind(int)",),
    ),
    # the proxy's own login
    Hole("rowgate is not in pg_signal_backend", ("REVOKE pg_signal_backend FROM rowgate",), Grade.WARNING),
    Hole(
        "login rowgate has CREATEROLE, BYPASSRLS, pg_read_all_data",
        ("ALTER ROLE rowgate CREATEROLE BYPASSRLS", "GRANT pg_read_all_data TO rowgate"),
        Grade.WARNING,
    ),
    Hole("login rowgate is a superuser", ("ALTER ROLE rowgate SUPERUSER",), Grade.WARNING),
    Hole(
        "login rowgate owns public.its_own",
        ("CREATE TABLE its_own (id int)", "ALTER TABLE its_own OWNER TO rowgate"),
        Grade.WARNING,
        clean=("DROP TABLE its_own",),
    ),
    Hole("login rowgate may not connect", ("REVOKE CONNECT ON DATABASE template1 FROM PUBLIC",), Grade.WARNING),
    # logs
    Hole("log_statement is all", ("ALTER SYSTEM SET log_statement = 'all'", "SELECT pg_reload_conf()"), Grade.WARNING),
    Hole(
        "log_min_duration_statement is 0 for shop_app in postgres",
        ("ALTER ROLE shop_app IN DATABASE postgres SET log_min_duration_statement = 0",),
        Grade.WARNING,
    ),
    Hole("log_statement is all for postgres", ("ALTER DATABASE postgres SET log_statement = 'all'",), Grade.WARNING),
)


@pytest.mark.parametrize("hole", HOLES_PLANTED, ids=lambda hole: hole.found[:50])
def test_a_hole_is_found_and_its_remedy_closes_it(patient: Patient, hole: Hole) -> None:
    if hole.older and patient.version != 15:
        return  # the wheel has no contrib
    patient.execute(*hole.plant, database=hole.database)
    try:
        finding = patient.found(hole.found)
        assert finding is not None
        assert finding.grade is hole.grade
        assert finding.why
        patient.mend(finding)
        assert patient.found(hole.found) is None
    finally:
        if hole.clean:
            patient.execute(*hole.clean, database=hole.database)


@pytest.mark.parametrize(
    ("line", "grade", "instead"),
    [
        ("host all all 10.0.0.0/8 scram-sha-256", Grade.HOLE, ""),
        ("host all all 0.0.0.0/0 scram-sha-256", Grade.HOLE, "host all all 127.0.0.1/32 scram-sha-256"),
        ("host all all all scram-sha-256", Grade.HOLE, "host all all 127.0.0.1/32 scram-sha-256"),
        ("host all all db.example.com scram-sha-256", Grade.HOLE, "host all all 127.0.0.1/32 scram-sha-256"),
        ("host replication all ::/0 scram-sha-256", Grade.HOLE, ""),
        ("host all shop_app 127.0.0.1/32 trust", Grade.HOLE, "host all shop_app 127.0.0.1/32 scram-sha-256"),
        ("local all all trust", Grade.HOLE, "local all all peer"),
        ("host all all 127.0.0.1/32 md5", Grade.WARNING, "host all all 127.0.0.1/32 scram-sha-256"),
        ("host all all 127.0.0.1/32 password", Grade.WARNING, "host all all 127.0.0.1/32 scram-sha-256"),
    ],
)
def test_a_line_of_pg_hba_that_lets_in_too_much(patient: Patient, line: str, grade: Grade, instead: str) -> None:
    patient.sound_lines()
    patient.hba.write_text(patient.hba.read_text() + line + "\n")
    patient.reload()
    finding = patient.found(line)
    assert finding is not None
    assert finding.grade is grade
    assert [edit.new for edit in finding.remedy.edits] == [instead]
    patient.mend(finding)
    assert patient.found(line) is None
    patient.sound_lines()


def test_lines_behind_a_rejection_let_nobody_in(patient: Patient) -> None:
    with patient.hba.open("a") as file:
        file.write("host all all 0.0.0.0/0 reject\nhost all all 10.0.0.0/8 scram-sha-256\n")
    patient.reload()
    assert patient.found("10.0.0.0/8") is None
    patient.sound_lines()


def test_other_proxies_are_no_strangers(patient: Patient) -> None:
    patient.hba.write_text(patient.hba.read_text() + "host all all 10.0.7.4/30 scram-sha-256\n")
    patient.reload()
    policy = snapshot(POLICY)
    assert patient.found("10.0.7.4/30") is not None
    both = Setup(0.0, 0, policy=policy, proxies=(ip_network("10.0.7.4/30"),))
    assert patient.found("10.0.7.4/30", both) is None
    one = Setup(0.0, 0, policy=policy, proxies=(ip_network("10.0.7.5"),))
    finding = patient.found("10.0.7.4/30", one)
    assert finding is not None
    assert finding.remedy.edits[0].new == "host all all 10.0.7.5/32 scram-sha-256"
    patient.sound_lines()


def test_createrole_is_worse_before_version_16(patient: Patient) -> None:
    patient.execute("CREATE ROLE eve LOGIN CREATEROLE")
    finding = patient.found("eve has CREATEROLE")
    assert finding is not None
    assert finding.grade is (Grade.HOLE if patient.version == 15 else Grade.WARNING)
    patient.mend(finding)
    assert patient.found("eve has CREATEROLE") is None
    patient.execute("DROP ROLE eve")


def test_md5_hashes_are_named(patient: Patient) -> None:
    patient.execute("SET password_encryption = 'md5'", f"ALTER ROLE shop_app PASSWORD '{SECRET}'")
    finding = patient.found("stored as md5 hashes: the passwords of shop_app")
    assert finding is not None
    assert '\\password "shop_app"' in finding.remedy.text
    patient.execute("SET password_encryption = 'scram-sha-256'", f"ALTER ROLE shop_app PASSWORD '{SECRET}'")
    assert patient.found("stored as md5") is None
    patient.execute("ALTER ROLE shop_app PASSWORD NULL")


def test_users_that_only_the_direct_way_is_open_to(patient: Patient) -> None:
    strict = snapshot(POLICY.replace('user: ["*"]', "user: [nobody]"))
    patient.execute("CREATE ROLE leftover LOGIN")
    finding = patient.found("no client rule admits: leftover", Setup(0.0, 0, policy=strict))
    assert finding is not None
    patient.mend(finding)
    assert patient.found("leftover", Setup(0.0, 0, policy=strict)) is None
    patient.execute("DROP ROLE leftover")


def test_a_superuser_that_nobody_admits_can_only_come_around(patient: Patient) -> None:
    strict = snapshot(POLICY.replace('user: ["*"]', "user: [nobody]").replace("postgres, looker", "looker"))
    finding = patient.found("superuser postgres: no client rule names it", Setup(0.0, 0, policy=strict))
    assert finding is not None
    assert "{name: administrators, user: [postgres]" in finding.remedy.text
    assert patient.found("superuser postgres") is None  # which the patient's own policy names


def test_what_the_login_may_not_see_is_not_fine(patient: Patient) -> None:
    patient.execute("REVOKE pg_monitor FROM rowgate", "REVOKE SELECT ON pg_hba_file_rules FROM rowgate")
    secret = f"{SECRET}, another"
    before = patient.examine(user="rowgate", secret=secret)
    unchecked = {(each.check, each.found) for each in before.findings if each.grade is Grade.UNCHECKED}
    assert {check for check, _ in unchecked} >= {"other hosts", "passwords"}
    assert any("may not read pg_hba_file_rules" in found for _, found in unchecked)
    assert any("may not see where other users' sessions come from" in found for _, found in unchecked)
    assert any("may not read pg_authid" in found for _, found in unchecked)
    assert not {"other hosts", "passwords"} & {check.name for check in before.fine}
    assert before.status >= WARNINGS
    for finding in before.findings:
        if finding.grade is Grade.UNCHECKED:
            patient.mend(finding)
    after = patient.examine(user="rowgate", secret=secret)
    unchecked = {(each.check, each.found) for each in after.findings if each.grade is Grade.UNCHECKED}
    left = [found for _, found in unchecked if "use --config" not in found]
    assert left == ["passwords: not checked: the login rowgate may not read pg_authid, and it is better so"]
    patient.execute("GRANT pg_monitor TO rowgate")


def test_a_database_that_cannot_be_looked_into_is_not_fine(patient: Patient) -> None:
    patient.execute("CREATE DATABASE closed", "REVOKE CONNECT ON DATABASE closed FROM PUBLIC")
    report = patient.examine(user="rowgate", secret=f"{SECRET}, another")
    gap = next(each for each in report.findings if "database closed" in each.found)
    assert gap.grade is Grade.UNCHECKED
    assert "exits" not in {check.name for check in report.fine}
    patient.mend(gap)
    report = patient.examine(user="rowgate", secret=f"{SECRET}, another")
    assert not any("not checked: database" in each.found for each in report.findings)
    patient.execute("DROP DATABASE closed")


def test_a_sound_server_has_nothing_but_what_the_test_needs(patient: Patient) -> None:
    report = patient.examine()
    found = [each.found for each in report.findings if "not given" not in each.found]
    assert len(found) == 1
    assert "local all postgres trust" in found[0]
    assert report.status == HOLES


def test_sessions_past_the_proxy_are_seen(patient: Patient) -> None:
    async def beside() -> None:
        past = await asyncpg.connect(patient.trusted, server_settings={"application_name": "a backdoor"})
        try:
            finding = await asyncio.to_thread(patient.found, "a backdoor")
            assert finding is not None
            assert finding.found.startswith("1 session of postgres (database postgres) from a Unix socket")
            await asyncio.to_thread(patient.mend, finding)
            assert await asyncio.to_thread(patient.found, "a backdoor") is None
        finally:
            past.terminate()
            await asyncio.sleep(0)

    asyncio.run(beside())
