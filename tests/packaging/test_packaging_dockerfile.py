"""The image, read and not built: no Docker where these tests run. Its health check is run against a real proxy."""

import json
import re
import subprocess
import sys
from pathlib import Path

from rowgate.demo.postgres import ThrowawayPostgres, free_port
from support.proxy import Proxy

ROOT = Path(__file__).parents[2]
TEXT = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE))
POLICY = "version: 1\nmode: monitor\nunmatched_clients: admit\n"


def stages() -> list[list[tuple[str, str]]]:
    """Return each stage's instructions with their arguments."""
    found: list[list[tuple[str, str]]] = []
    for line in filter(None, map(str.strip, TEXT.splitlines())):
        name, _, argument = line.partition(" ")
        if name == "FROM":
            found.append([])
        if found:
            found[-1].append((name, argument.strip()))
    return found


def arguments(stage: list[tuple[str, str]], wanted: str) -> list[str]:
    return [argument for name, argument in stage if name == wanted]


def exec_form(argument: str) -> list[str]:
    words: list[str] = json.loads(argument)
    return words


def health_check() -> list[str]:
    (argument,) = arguments(stages()[-1], "HEALTHCHECK")
    return exec_form(argument.partition(" CMD ")[2])


def test_the_compiler_stays_behind() -> None:
    build, runtime = stages()
    assert any("gcc" in command for command in arguments(build, "RUN"))
    assert not any("apt-get" in command for command in arguments(runtime, "RUN"))
    assert "--from=build /opt/rowgate /opt/rowgate" in arguments(runtime, "COPY")


def test_what_is_installed_is_locked() -> None:
    for command in arguments(stages()[0], "RUN"):
        for install in re.findall(r"pip install[^&]*", command):
            assert "--require-hashes" in install or ("--no-index" in install and "--no-deps" in install)


def test_it_does_not_run_as_root() -> None:
    runtime = stages()[-1]
    (user,) = arguments(runtime, "USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    after = runtime[runtime.index(("USER", user)) :]
    assert not {"RUN", "COPY", "ADD"} & {name for name, _ in after}


def test_the_proxy_is_process_one_and_gets_the_signals() -> None:
    runtime = stages()[-1]
    (entry,) = arguments(runtime, "ENTRYPOINT")
    words = exec_form(entry)
    assert words[:2] == ["rowgate", "serve"]
    (volume,) = arguments(runtime, "VOLUME")
    assert words[words.index("--state") + 1] in json.loads(volume)
    policy = words[words.index("--policy") + 1]
    assert any(argument.split()[-1] == policy for argument in arguments(runtime, "COPY"))


def test_what_is_copied_exists_and_reaches_the_builder() -> None:
    ignored = (ROOT / ".dockerignore").read_text().split("\n")
    for stage in stages():
        for argument in arguments(stage, "COPY"):
            *sources, _ = argument.split()
            if sources[0].startswith("--from="):
                continue
            for source in sources:
                assert (ROOT / source).exists(), source
                assert f"!{source}" in ignored, f".dockerignore keeps {source} out"


def test_no_secret_is_baked_in() -> None:
    assert not re.search(r"(?i)password|secret|token|PGPASS", TEXT)


def test_health_is_a_real_start_up(postgres: ThrowawayPostgres, tmp_path: Path) -> None:
    with Proxy(tmp_path, postgres.url(), POLICY) as proxy:
        assert run_health_check(proxy.port) == 0
        proxy.kill()
        assert run_health_check(proxy.port) != 0


def test_a_port_nobody_listens_on_is_not_healthy() -> None:
    assert run_health_check(free_port()) != 0


def run_health_check(port: int) -> int:
    python, option, code = health_check()
    assert python == "python"
    assert "6432" in code
    command = [sys.executable, option, code.replace("6432", str(port))]
    return subprocess.run(command, capture_output=True, check=False, timeout=20).returncode
