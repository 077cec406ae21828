"""Policies for the tests: one that uses every key this build enforces, and how to load text."""

from rowgate.policy.load import PolicyError, Problem, read
from rowgate.policy.snapshot import Snapshot

FULL = """\
version: 1
mode: enforce
unmatched_clients: refuse
entities:
  customer:
    database: shop
    tables:
      public.customers: {key: id, sensitive: [email, phone]}
      public.orders: {key: customer_id}
clients:
  - name: shop
    user: [shop_app]
    from: [10.20.0.0/16]
  - name: support
    user: ["support_*"]
    database: [shop]
limits:
  - name: support people
    clients: [support]
    scope: [user]
    measure: rows(customer)
    hint: ask Kim
    windows:
      1h: {limit: 60, alert_at: 50%, on_exceed: throttle, max_wait: 2s}
      30d: {limit: 5000, alert_at: 4000, on_exceed: block}
  - name: bytes
    mode: monitor
    scope: [source, user]
    measure: bytes
    windows:
      1d: {limit: 64MB, on_exceed: alert}
statements:
  - {name: backup, clients: [shop], allow: [copy_to]}
  - {name: everyone, max_rows: 10000, max_bytes: 64MB, deny: [copy_to, replication]}
exemptions:
  - {limit: support people, scope: {user: support_kim}, factor: 3, until: 2026-12-01T00:00Z, reason: INC-481}
"""


def snapshot(text: str = FULL, *changes: tuple[str, str]) -> Snapshot:
    """Return the policy of ``text`` after replacing each pair's first by its second, which must be there once."""
    return read(changed(text, *changes).encode(), "policy.yaml")


def changed(text: str, *changes: tuple[str, str]) -> str:
    for before, after in changes:
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    return text


def problems(text: str) -> tuple[Problem, ...]:
    """Return the problems of a policy that must not load."""
    try:
        read(text.encode(), "policy.yaml")
    except PolicyError as error:
        return error.problems
    raise AssertionError("it loaded")
