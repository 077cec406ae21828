"""Failures of other proxies, gateways and firewalls, as reported in public: each is covered by tests of ours.

A test says which by ``@pytest.mark.peers(number, …)``; what belongs to a later capability is listed here, with why.
``pytest -m peers`` runs them all.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent

FAILURES = {
    1: "a cap buffers the whole result, or reads the server to the end",
    2: "results over the limit are silently emptied",
    3: "rows that span several reads are miscounted (MaxScale MXS-1068)",
    4: "newer protocol features break the count or the cancel (MXS-5111)",
    5: "only the first result of several is limited",
    6: "the delayed call-back of a throttle outlives its session",
    7: "prepared statements slip past firewall or audit (MXS-2390, Teleport #6051)",
    8: "a parse error logs a warning and forwards (PgCat)",
    9: "names are matched as text: quoting, case, views and synonyms slip by",
    10: "counters kept by session are reset by reconnecting",
    11: "parallel statements overshoot",
    12: "a decision is stale by the time of Bind: coercion runs code that moves search_path",
    13: "client_encoding or standard_conforming_strings make proxy and server read different SQL",
    14: "probes injected into the client's transaction break SET TRANSACTION (25001)",
    15: "a cancel hits another client's query (PgBouncer #717, Odyssey #1216)",
    16: "after a cancel the next reader gets the previous rows (PgBouncer #141)",
    17: "a cancelled asynchronous read desynchronises the stream (asyncmy #103, PgDog #591)",
    18: "clear text ahead of the TLS handshake is accepted (CVE-2021-3935, CVE-2021-23222)",
    19: "GSSENC accepted blinds the proxy; -PLUS breaks where TLS ends at it",
    20: "SCRAM overflows, KILL without authorisation, expired passwords (PgBouncer CVE-2025-2291, CVE-2025-12819)",
    21: "statement-map bugs: 42P05, Close after a failed Parse, another's errors (ProxySQL #6197, Odyssey #1361)",
    22: "portal suspension is wrong at an exact boundary; a silent cut at 1,024 rows (ProxySQL #5900)",
    23: "COPY: sync lost, values split over CopyData, lines taken for rows (Odyssey #554, PgDog #744, pgaudit #240)",
    24: "a slow client takes 10 GB of memory (ProxySQL #1232); 1 M rows end a gateway (hoop #935)",
    25: "40 tps on big results, seconds to open 100 connections, quadratic TLS writes (PgCat #617, Odyssey #1231)",
    26: "monitor mode blocks (ProxySQL #5332)",
    27: "a restart drains after CommandComplete, before Sync",
    28: "a statement in flight survives revocation (Teleport #61948, Vault)",
    29: "a length that overflows smuggles messages (CVE-2024-27304)",
    30: "ErrorResponse and a constant idle ReadyForQuery are written over pending replies (Acra)",
}

# What is not there yet, wholly or in part; whoever builds it moves the line into a marker.
LATER = {
    20: "KILL without authorisation: of the admin console, which comes with operation; the rest of the line is covered",
    28: "revocation by call comes with identities; until then what ends sessions is a policy that admits them no more",
}


def marked(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the numbers that the tests of a file bear, with the tests' names."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.peers":
                for number in decorator.args:
                    yield ast.literal_eval(number), f"{path.relative_to(TESTS)}::{node.name}"


@pytest.fixture(scope="module")
def covered() -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        for number, test in marked(path):
            found.setdefault(number, []).append(test)
    return found


@pytest.mark.parametrize("number", FAILURES)
def test_each_failure_has_a_test_or_a_reason(number: int, covered: dict[int, list[str]]) -> None:
    assert covered.get(number) or LATER.get(number), f"nothing covers failure {number}: {FAILURES[number]}"


def test_markers_name_failures_that_are_listed(covered: dict[int, list[str]]) -> None:
    unknown = {number: tests for number, tests in covered.items() if number not in FAILURES}
    assert not unknown
    assert set(LATER) <= set(FAILURES)
    assert list(FAILURES) == list(range(1, 31))


def test_only_tests_bear_markers(covered: dict[int, list[str]]) -> None:
    assert all(test.rpartition("::")[2].startswith("test_") for tests in covered.values() for test in tests)
