"""Row-level security, and the function that it asks: each fault planted in a real server, found, mended, gone."""

from dataclasses import replace

import pytest

from doctor.patient import KEY, POLICY, Patient
from policy.policies import snapshot
from rowgate.doctor.facts import Setup
from rowgate.doctor.finding import Grade
from rowgate.identity.seal import row_security_sql
from rowgate.policy.snapshot import Issuer

SSO = Issuer("sso", "https://sso.example", ("rowgate",), "https://sso.example/jwks.json", ("ES256",), recorded=True)
SETUP = Setup(0.0, 0, policy=replace(snapshot(POLICY), issuers=(SSO,)))
FUNCTION = "rowgate.end_user()"
# One that anybody has written: it takes the setting's word.
GULLIBLE = """CREATE OR REPLACE FUNCTION rowgate.end_user() RETURNS text LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$ BEGIN RETURN current_setting('rowgate.end_user', true); END $$"""


def install(patient: Patient, key: bytes = KEY) -> None:
    patient.execute("DROP SCHEMA IF EXISTS rowgate CASCADE", row_security_sql(key))


@pytest.mark.parametrize(
    ("found", "plant"),
    [
        ("its schema or its table belongs to shop_app", "ALTER FUNCTION rowgate.end_user() OWNER TO shop_app"),
        ("its schema or its table belongs to shop_app", "ALTER SCHEMA rowgate OWNER TO shop_app"),
        ("its schema or its table belongs to shop_app", "ALTER TABLE rowgate.seal_keys OWNER TO shop_app"),
        ("runs with its caller's search_path", "ALTER FUNCTION rowgate.end_user() RESET search_path"),
        ("PUBLIC may create things in schema rowgate", "GRANT CREATE ON SCHEMA rowgate TO PUBLIC"),
        ("shop_app may create things in schema rowgate", "GRANT CREATE ON SCHEMA rowgate TO shop_app"),
        ("tables of schema rowgate: PUBLIC: rowgate.seal_keys", "GRANT SELECT ON rowgate.seal_keys TO PUBLIC"),
        ("tables of schema rowgate: shop_app: rowgate.seal_keys", "GRANT UPDATE ON rowgate.seal_keys TO shop_app"),
    ],
)
def test_a_function_that_somebody_could_forge(patient: Patient, found: str, plant: str) -> None:
    install(patient)
    assert not [
        each for each in patient.examine(SETUP).findings if each.check == "end user" and "config" not in each.found
    ]
    patient.execute(plant)
    finding = patient.found(found, SETUP)
    assert finding is not None
    assert finding.grade is Grade.HOLE
    patient.mend(finding)
    assert patient.found(found, SETUP) is None


@pytest.mark.parametrize(
    ("found", "grade", "plant"),
    [
        ("is not the one that comes with this version", Grade.HOLE, GULLIBLE),
        ("does not tell the end user that the proxy's key has sealed", Grade.WARNING, "DELETE FROM rowgate.seal_keys"),
    ],
)
def test_a_function_that_is_tried_and_fails(patient: Patient, found: str, grade: Grade, plant: str) -> None:
    install(patient)
    assert patient.found(found, SETUP) is None
    patient.execute(plant)
    finding = patient.found(found, SETUP)
    assert finding is not None
    assert finding.grade is grade
    assert finding.remedy.commands[0].startswith("rowgate row-security --key-file")
    patient.execute(row_security_sql(KEY))  # what that command prints
    assert patient.found(found, SETUP) is None


def test_a_trap_for_the_superuser_who_looks_is_not_called(patient: Patient) -> None:
    install(patient)
    taken = patient.hba.parent / "taken"
    patient.execute(
        "CREATE OR REPLACE FUNCTION rowgate.end_user() RETURNS text LANGUAGE plpgsql AS"
        f" $$ BEGIN COPY (SELECT 1) TO PROGRAM 'cat > {taken}'; RETURN 'rowgate doctor'; END $$"
    )
    assert patient.found("is not the one that comes with this version", SETUP) is not None
    assert not taken.exists()


def test_another_key_than_the_proxys(patient: Patient) -> None:
    install(patient, b"another key, of some other proxy, as long")
    assert patient.found("does not tell the end user that the proxy's key has sealed", SETUP) is not None


def test_a_function_that_is_not_there(patient: Patient) -> None:
    patient.execute("DROP SCHEMA IF EXISTS rowgate CASCADE")
    assert patient.found(f"{FUNCTION} is not there") is None  # nobody needs it without issuers
    finding = patient.found(f"{FUNCTION} is not there", SETUP)
    assert finding is not None
    assert finding.database == "postgres"  # where the policy has people, and nowhere else
    install(patient)
    assert patient.found(f"{FUNCTION} is not there", SETUP) is None


def test_a_table_of_people_without_row_security(patient: Patient) -> None:
    words = "public.customers (entity customer) has no row-level security"
    assert patient.found(words) is None  # without issuers there are no end users to tell apart
    finding = patient.found(words, SETUP)
    assert finding is not None
    patient.mend(finding)
    assert patient.found(words, SETUP) is None
    patient.execute("ALTER TABLE customers OWNER TO shop_app")
    owner = patient.found("row-level security of public.customers is nothing to its owner, shop_app", SETUP)
    assert owner is not None
    patient.mend(owner)
    assert patient.found("nothing to its owner", SETUP) is None
    patient.execute(
        "ALTER TABLE customers OWNER TO postgres",
        "ALTER TABLE customers DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE customers NO FORCE ROW LEVEL SECURITY",
    )


def test_a_condition_that_goes_by_a_setting(patient: Patient) -> None:
    words = "row-level security of public.customers goes by a setting"
    patient.execute("CREATE POLICY own ON customers USING (name = current_setting('rowgate.end_user'))")
    finding = patient.found(words)
    assert finding is not None
    assert finding.grade is Grade.HOLE
    install(patient)
    patient.execute("ALTER POLICY own ON customers USING (name = rowgate.end_user())")
    assert patient.found(words) is None
    patient.execute("DROP POLICY own ON customers")


def test_a_table_that_is_not_there(patient: Patient) -> None:
    patient.execute("ALTER TABLE customers RENAME TO clients")
    assert patient.found("tables that the policy names and that are not there: public.customers") is not None
    patient.execute("ALTER TABLE clients RENAME TO customers")
    assert patient.found("that are not there") is None
