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


IDENTITY = """\
version: 1
mode: enforce
issuers:
  - name: sso
    issuer: https://sso.shop.example
    audience: [rowgate]
    keys: keys/sso.json
    algorithms: [ES256, RS256]
    end_user: email
    max_age: 12h
    skew: 20s
    max_key_age: 90d
    revoked_keys: [old, older]
    issued: {introspection: https://sso.shop.example/introspect, client: rowgate, secret_file: sso.secret, remember: 5s}
    end_users: directory
    unreachable: {grace: 10m}
  - {name: batch, issuer: "urn:b", audience: [rowgate], keys: https://b.example/k, algorithms: [EdDSA], issued: record}
clients:
  - name: support
    user: ["support_*"]
    country: [KR, JP]
    certificate: ["*.support.example"]
    hours: ["Mon-Fri 08:00-20:00 Asia/Seoul", "Sat 09:00-13:00 Asia/Seoul"]
    tls: require
    max_session: 12h
    end_user: token
    per: transaction
    issuers: [sso]
  - name: night
    user: ["support_*"]
    end_user: token
limits:
  - name: people
    scope: [end_user]
    measure: rows
    windows:
      1h: {limit: 60, on_exceed: block}
      1d: {limit: 100, on_exceed: revoke}
  - name: crowds
    scope: [signing_key, database]
    measure: distinct(end_user)
    windows:
      1d: {limit: 5000, on_exceed: revoke}
  - name: certified
    clients: [support]
    scope: [certificate]
    measure: bytes
    windows:
      1d: {limit: 64MB, on_exceed: alert}
exemptions:
  - {limit: crowds, scope: {signing_key: sso/a}, factor: 2, until: 2026-12-01T00:00Z, reason: INC-1}
custody:
  - user: shop_app
    owner: kim@shop.example
    custodians: [lee@shop.example, park@shop.example]
    rotate_within: 7d
    rotated: 2026-11-01T00:00Z
    max_age: 90d
    dormant_after: 60d
    overdue: refuse
  - {signing_key: sso/*, owner: kim@shop.example}
"""
"""A policy that uses every key of identity."""
