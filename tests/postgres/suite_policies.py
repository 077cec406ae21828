"""What PostgreSQL's own tests are run under: every way of measuring is at work, and nothing is ever reached."""

GENEROUS = """
version: 1
mode: MODE
unmatched_clients: admit
entities:
  thousand: {tables: {public.onek: {key: unique1}, public.tenk1: {key: unique1}, public.person: {key: name}}}
  little: {tables: {public.int4_tbl: {key: f1}, public.text_tbl: {key: f1}, public.pq_pipeline_demo: {key: id}}}
limits:
  - name: rows
    scope: [user, source, database]
    measure: rows
    windows:
      1m: {limit: 100_000_000, on_exceed: throttle, max_wait: 5s}
      30d: {limit: 1_000_000_000, on_exceed: block}
  - {name: bytes, scope: [user], measure: bytes, windows: {1h: {limit: 100GB, on_exceed: block}}}
  - name: statements
    scope: [user, statement]
    measure: statements
    windows: {1h: {limit: 100_000_000, on_exceed: block}}
  - {name: thousand, scope: [user], measure: rows(thousand), windows: {1h: {limit: 100_000_000, on_exceed: block}}}
  - {name: little, scope: [source], measure: rows(little), windows: {1d: {limit: 100_000_000, on_exceed: block}}}
statements:
  - {name: everyone, max_rows: 10_000_000, max_bytes: 100GB, allow: [copy_to]}
"""
