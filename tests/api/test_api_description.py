"""The API is as it describes itself, whatever it is sent: schemathesis, against the real server."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from api.api_harness import ServedApi
from api.test_api_shared_signals import Stage
from rowgate.api.access import Role
from rowgate.clock import ManualClock

# What a server that reads leniently, as SCIM's must, can be held to: it never fails, and says what it does.
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "ignored_auth",
    "use_after_free",
]


# A security event is text to schemathesis, which knows no other way to send one.
HOOKS = """
import schemathesis

schemathesis.serializer.alias("application/secevent+jwt", "text/plain")
"""


class HurryingClock(ManualClock):
    """A clock on which a request takes seconds, so that none is one too many."""

    def monotonic(self) -> float:
        self.advance(5)
        return super().monotonic()


def run(api: ServedApi, *options: str) -> None:
    (api.state / "api_hooks.py").write_text(HOOKS)
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("st")),
            "run",
            f"{api.address}/openapi.json",
            f"--header=Authorization: Bearer {api.tokens[Role.ADMIN]}",
            f"--checks={','.join(CHECKS)}",
            "--suppress-health-check=all",
            "--warnings=off",
            "--generation-database=none",
            "--seed=1",
            "--max-failures=5",
            "--no-color",
            *options,
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
        cwd=api.state,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "api_hooks", "PYTHONPATH": str(api.state)},
    )
    assert done.returncode == 0, done.stdout[-6_000:] + done.stderr[-2_000:]


@pytest.mark.parametrize("phases", ["examples,coverage", "fuzzing"])
def test_it_survives_schemathesis(tmp_path: Path, phases: str) -> None:
    stage = Stage(tmp_path)
    stage.api.clock = HurryingClock()
    with stage.api as api:
        run(api, f"--phases={phases}", "--max-examples=15")
        assert api.heard.failures == []
    stage.seen.close()


def test_it_is_for_those_with_a_token(api: ServedApi) -> None:
    with api.client(None) as client:
        assert client.get("/openapi.json").status_code == 401
    with api.client(Role.VIEWER) as client:
        document = client.get("/openapi.json").json()
    assert document["openapi"] == "3.1.0"
    assert {"/health", "/scim/v2/Users", "/scim/v2/Users/{id}"} <= set(document["paths"])
