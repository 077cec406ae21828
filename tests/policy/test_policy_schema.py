import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from policy.policies import FULL, IDENTITY, changed, snapshot
from rowgate.policy.document import parse
from rowgate.policy.schema import schema, schema_text

POLICIES = Path(__file__).parents[2] / "policies"


def _plain(text: str) -> Any:
    def lists(value: Any) -> Any:
        if isinstance(value, tuple):
            return [lists(item) for item in value]
        return {key: lists(item) for key, item in value.items()} if isinstance(value, dict) else value

    return lists(parse(text.encode()).data)


def test_the_schema_beside_the_policies_is_the_models() -> None:
    stored = (POLICIES / "rowgate.schema.json").read_text(encoding="utf-8")
    assert stored == schema_text(), "run: rowgate policy schema > policies/rowgate.schema.json"


@pytest.mark.parametrize("name", ["default.yaml", "strict.yaml", "identity.yaml"])
def test_the_policies_we_ship_are_valid_by_the_schema_and_name_it(name: str) -> None:
    text = (POLICIES / name).read_text(encoding="utf-8")
    Draft202012Validator.check_schema(schema())
    assert [error.message for error in Draft202012Validator(schema()).iter_errors(_plain(text))] == []
    assert text.startswith("# yaml-language-server: $schema=rowgate.schema.json\n")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("mode: enforce", "mode: enforced"),
        ("mode: enforce", "mode:"),
        ("version: 1", "version: 2"),
        ("    hint: ask Kim", "    hnt: ask Kim"),
        ("30d: {limit", "30x: {limit"),
        ("limit: 60,", "limit: 0,"),
        ("limit: 60,", "limit: 60QB,"),
        ("alert_at: 50%", "alert_at: 500%"),
        ("rows(customer)", "distinct(customer)"),
        ("    scope: [user]", "    scope: []"),
        ("    scope: [user]", "    scope: [usr]"),
        ("from: [10.20.0.0/16]", "from:"),
        ("allow: [copy_to]", "allow: [replication]"),
        ("public.orders:", "orders:"),
        ("factor: 3", "factor: 1"),
        (", reason: INC-481", ""),
    ],
)
def test_an_editor_marks_mistakes_of_one_value(before: str, after: str) -> None:
    validator = Draft202012Validator(schema())
    assert validator.is_valid(_plain(FULL))
    assert not validator.is_valid(_plain(FULL.replace(before, after)))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("[ES256, RS256]", "[ES256, HS256]"),
        ("[ES256, RS256]", "[none]"),
        ("[ES256, RS256]", "[]"),
        ("issued: record", "issued: recorded"),
        ("issued: record", "issued: {introspection: https://a.example}"),
        ("introspection: https://sso", "introspection: ldap://sso"),
        ("remember: 5s", "remember: 5"),
        ("{grace: 10m}", "{}"),
        ("{grace: 10m}", "open"),
        ("end_users: directory", "end_users: some"),
        ("country: [KR, JP]", "country: [Korea]"),
        ("Sat 09:00-13:00 Asia/Seoul", "Sat 09:00-13:00"),
        ("end_user: token\n    per", "end_user: any\n    per"),
        ("per: transaction", "per: statement"),
        ("on_exceed: revoke}\n  - name: crowds", "on_exceed: revok}\n  - name: crowds"),
        ("sso/a}", "sso}"),
        ("overdue: refuse", "overdue: never"),
        ("    owner: kim", "    ownr: kim"),
    ],
)
def test_an_editor_marks_mistakes_of_identity(before: str, after: str) -> None:
    validator = Draft202012Validator(schema())
    assert validator.is_valid(_plain(IDENTITY))
    assert not validator.is_valid(_plain(changed(IDENTITY, (before, after))))


def test_an_editor_takes_hours_as_one_span_or_as_a_list() -> None:
    hours = '["Mon-Fri 08:00-20:00 Asia/Seoul", "Sat 09:00-13:00 Asia/Seoul"]'
    for written in ("Mon-Fri 08:00-20:00 Asia/Seoul", "[Mon-Fri 08:00-24:00 Asia/Seoul]"):
        text = changed(IDENTITY, (hours, written))
        assert Draft202012Validator(schema()).is_valid(_plain(text))
        assert snapshot(text).clients[0].hours is not None


def test_every_key_has_help_for_the_editor() -> None:
    models = [schema(), *json.loads(schema_text())["$defs"].values()]
    bare = [name for model in models for name, key in model.get("properties", {}).items() if not key.get("description")]
    assert bare == []


def test_a_default_is_shown_as_a_policy_would_write_it() -> None:
    models = [schema(), *schema()["$defs"].values()]
    keys = [key for model in models for key in model.get("properties", {}).values() if "default" in key]
    assert keys
    for key in keys:
        Draft202012Validator({"$defs": schema()["$defs"], **key}).validate(key["default"])
