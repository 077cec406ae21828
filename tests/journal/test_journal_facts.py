import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowgate.journal.errors import JournalError
from rowgate.journal.facts import MAX_TEMPLATE_BYTES, definition
from rowgate.journal.record import MAX_PAYLOAD, Definition, Kind


@given(st.text(), st.lists(st.text()), st.text())
def test_whatever_a_client_sends_fits(template: str, tables: list[str], application: str) -> None:
    for text in (template, template * 5000):
        made = definition(Kind.STATEMENT, {"template": text, "tables": tables * 50})
        assert len(made.payload) <= MAX_PAYLOAD[Kind.STATEMENT]
        assert set(json.loads(made.payload)) == {"template", "tables", "kinds"}
    made = definition(Kind.SESSION, {"application": application * 5000, "user": "\x00" * 100_000})
    assert len(made.payload) <= MAX_PAYLOAD[Kind.SESSION]


@given(st.text(max_size=60), st.lists(st.text(max_size=60), max_size=3), st.none() | st.integers())
def test_the_payload_is_json_without_spaces(template: str, tables: list[str], pid: int | None) -> None:
    facts = {"template": template, "tables": tables, "kinds": None}
    written = json.dumps(facts, ensure_ascii=False, separators=(",", ":")).encode()
    assert definition(Kind.STATEMENT, facts).payload == written
    assert json.loads(definition(Kind.SESSION, {"pid": pid}).payload)["pid"] == pid


def test_a_long_template_is_cut_and_marked() -> None:
    facts = json.loads(definition(Kind.STATEMENT, {"template": "é" * MAX_TEMPLATE_BYTES}).payload)
    assert facts["template"].endswith("é…")
    assert len(facts["template"].encode()) <= MAX_TEMPLATE_BYTES


def test_names_that_are_not_utf8_cost_nothing() -> None:
    assert json.loads(definition(Kind.SESSION, {"user": "caf\udce9"}).payload)["user"] == "caf?"


def test_a_fact_nobody_knows_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="no password; it has session, user"):
        definition(Kind.SESSION, {"password": "secret"})


def test_a_payload_of_ones_own_is_bounded() -> None:
    with pytest.raises(JournalError, match="at most 1024"):
        Definition(Kind.RULE, b"x" * 1025)
