"""Row-level security, and the function that it asks: each fault planted in a real server, found, mended, gone."""

from dataclasses import replace

import pytest

from doctor.patient import POLICY, Patient
from policy.policies import snapshot
from rowgate.doctor.facts import Setup
from rowgate.doctor.finding import Grade
from rowgate.policy.snapshot import Issuer

SSO = Issuer("sso", "https://sso.example", ("rowgate",), "https://sso.example/jwks.json", ("ES256",), recorded=True)
SETUP = Setup(0.0, 0, policy=replace(snapshot(POLICY), issuers=(SSO,)))
SOUND = (
    "CREATE SCHEMA rowgate",
    "CREATE TABLE rowgate.keys (key bytea)",
    """CREATE FUNCTION rowgate.end_user() RETURNS text LANGUAGE sql STABLE SECURITY DEFINER
       SET search_path = pg_catalog, pg_temp AS $$ SELECT 'somebody'::text $$""",
    "GRANT USAGE ON SCHEMA rowgate TO PUBLIC",
)


@pytest.mark.parametrize(
    ("found", "plant"),
    [
        ("rowgate.end_user() belongs to shop_app", "ALTER FUNCTION rowgate.end_user() OWNER TO shop_app"),
        ("runs with its caller's search_path", "ALTER FUNCTION rowgate.end_user() RESET search_path"),
        ("PUBLIC may create things in schema rowgate", "GRANT CREATE ON SCHEMA rowgate TO PUBLIC"),
        ("shop_app may create things in schema rowgate", "GRANT CREATE ON SCHEMA rowgate TO shop_app"),
        ("rights on tables of schema rowgate: PUBLIC: rowgate.keys", "GRANT SELECT ON rowgate.keys TO PUBLIC"),
        ("rights on tables of schema rowgate: shop_app: rowgate.keys", "GRANT UPDATE ON rowgate.keys TO shop_app"),
    ],
)
def test_a_function_that_somebody_could_forge(patient: Patient, found: str, plant: str) -> None:
    patient.execute("DROP SCHEMA IF EXISTS rowgate CASCADE", *SOUND)
    assert patient.found(found, SETUP) is None
    patient.execute(plant)
    finding = patient.found(found, SETUP)
    assert finding is not None
    assert finding.grade is Grade.HOLE
    patient.mend(finding)
    assert patient.found(found, SETUP) is None


def test_a_function_that_is_not_there(patient: Patient) -> None:
    patient.execute("DROP SCHEMA IF EXISTS rowgate CASCADE")
    assert patient.found("rowgate.end_user() is not there") is None  # nobody needs it without issuers
    finding = patient.found("rowgate.end_user() is not there", SETUP)
    assert finding is not None
    assert finding.database == "postgres"  # where the policy has people, and nowhere else
    patient.execute(*SOUND)
    assert patient.found("rowgate.end_user() is not there", SETUP) is None


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
    patient.execute("DROP SCHEMA IF EXISTS rowgate CASCADE", *SOUND)
    patient.execute("ALTER POLICY own ON customers USING (name = rowgate.end_user())")
    assert patient.found(words) is None
    patient.execute("DROP POLICY own ON customers")


def test_a_table_that_is_not_there(patient: Patient) -> None:
    patient.execute("ALTER TABLE customers RENAME TO clients")
    assert patient.found("tables that the policy names and that are not there: public.customers") is not None
    patient.execute("ALTER TABLE clients RENAME TO customers")
    assert patient.found("that are not there") is None
