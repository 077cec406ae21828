"""Definitions that the journal's tests share."""

from rowgate.journal.facts import definition
from rowgate.journal.record import Definition, Kind


def session(name: str = "s1", user: str = "etl") -> Definition:
    facts = {"session": name, "user": user, "database": "shop", "source": "10.0.0.7", "application": "psql", "pid": 7}
    return definition(Kind.SESSION, {**facts, "client": "shop"})


def statement(template: str = "SELECT * FROM customers WHERE id = $1") -> Definition:
    return definition(Kind.STATEMENT, {"template": template, "tables": ["public.customers"], "kinds": ["select"]})


def policy(version: str = "0123456789ab") -> Definition:
    return definition(Kind.POLICY, {"version": version})


def rule(name: str = "bulk") -> Definition:
    return definition(Kind.RULE, {"name": name})
