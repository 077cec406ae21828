"""Policies for tests against a real server: who is limited in which way follows from the user's name.

Each test creates users of its own (``fresh_user``), so limits in scope ``[user]`` begin anew while the proxy is shared.
"""

ENFORCED = """
version: 1
mode: enforce
unmatched_clients: admit
entities:
  person:
    tables:
      public.met_people: {key: id, sensitive: [email]}
      public.twin_people: {key: id, sensitive: [email]}
clients:
  - {name: capped, user: ["capped_*"]}
  - {name: limited, user: ["limited_*"]}
  - {name: bytewise, user: ["bytes_*"]}
  - {name: counted, user: ["counted_*"]}
  - {name: throttled, user: ["throttled_*"]}
  - {name: hurried, user: ["hurried_*"]}
  - {name: personal, user: ["personal_*"]}
  - {name: sliding, user: ["sliding_*"]}
  - {name: templated, user: ["templated_*"]}
  - {name: exempted, user: ["exempted_*"]}
  - {name: no copying, user: ["nocopy_*"]}
limits:
  - name: rows of a user
    clients: [limited, exempted]
    scope: [user]
    measure: rows
    hint: Ask the keeper of the tests.
    windows: {1h: {limit: 100, on_exceed: block}}
  - name: bytes of a user
    clients: [bytewise]
    scope: [user]
    measure: bytes
    windows: {1h: {limit: 20000, on_exceed: block}}
  - name: statements of a user
    clients: [counted]
    scope: [user]
    measure: statements
    windows: {1h: {limit: 5, on_exceed: block}}
  - name: slow rows
    clients: [throttled]
    scope: [user]
    measure: rows
    windows: {1s: {limit: 50, on_exceed: throttle, max_wait: 10s}}
  - name: hurried rows
    clients: [hurried]
    scope: [user]
    measure: rows
    windows: {1s: {limit: 50, on_exceed: throttle, max_wait: 100ms}}
  - name: people of a user
    clients: [personal]
    scope: [user]
    measure: rows(person)
    windows: {1h: {limit: 100, on_exceed: block}}
  - name: sliding rows
    clients: [sliding]
    scope: [user]
    measure: rows
    windows: {2s: {limit: 100, on_exceed: block}}
  - name: rows of a statement
    clients: [templated]
    scope: [user, statement]
    measure: rows
    windows: {1h: {limit: 100, on_exceed: block}}
statements:
  - {name: hundred rows, clients: [capped], max_rows: 100, hint: Ask for less.}
  - {name: no copying, clients: [no copying], deny: [copy_to]}
exemptions:
  - {limit: rows of a user, scope: {user: exempted_one}, factor: 3, until: 2099-01-01T00:00Z, reason: TEST-1}
  - {limit: rows of a user, scope: {user: exempted_late}, factor: 3, until: 2020-01-01T00:00Z, reason: TEST-2}
"""

# Every way of measuring is at work, and nothing is reached.
GENEROUS = """
version: 1
mode: MODE
unmatched_clients: admit
entities:
  person: {tables: {public.twin_people: {key: id}}}
limits:
  - name: rows
    scope: [user, source, database]
    measure: rows
    windows:
      1m: {limit: 100_000_000, on_exceed: throttle, max_wait: 5s}
      30d: {limit: 1_000_000_000, on_exceed: block}
  - name: bytes
    scope: [user]
    measure: bytes
    windows: {1h: {limit: 100GB, on_exceed: block}}
  - name: statements
    scope: [user, statement]
    measure: statements
    windows: {1h: {limit: 100_000_000, on_exceed: block}}
  - name: people
    scope: [user]
    measure: rows(person)
    windows: {1h: {limit: 100_000_000, on_exceed: block}}
statements:
  - {name: everyone, max_rows: 10_000_000, max_bytes: 100GB}
"""

# Nothing is allowed, and nothing is stopped.
WOULD_STOP_ALL = """
version: 1
mode: monitor
unmatched_clients: refuse
entities:
  person: {tables: {public.twin_people: {key: id}}}
clients:
  - {name: somebody else, user: [somebody_else]}
limits:
  - {name: rows, scope: [user], measure: rows, windows: {1h: {limit: 1, on_exceed: block}}}
  - {name: bytes, scope: [user], measure: bytes, windows: {1h: {limit: 1, on_exceed: block}}}
  - {name: statements, scope: [user], measure: statements, windows: {1h: {limit: 1, on_exceed: block}}}
  - {name: people, scope: [user], measure: rows(person), windows: {1h: {limit: 1, on_exceed: block}}}
statements:
  - {name: everyone, max_rows: 1, max_bytes: 1, deny: [copy_to]}
"""
