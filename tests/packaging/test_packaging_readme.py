"""The README says what is so: every command and option is in it, its policies are valid, what it points to exists."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from rowgate.cli.main import app
from rowgate.policy.load import load

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, list[str]]]:
    """Return every command, as the words that call it, with its long options."""
    group = getattr(command, "commands", None)
    if group is None:
        options = [option for parameter in command.params for option in parameter.opts]
        yield " ".join(path), [option for option in options if option.startswith("--")]
    for name, member in (group or {}).items():
        yield from commands(member, (*path, name))


COMMANDS = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_explained(name: str) -> None:
    assert f"`rowgate {name}" in README
    tables = [line for line in README.splitlines() if line.startswith("|")]
    for option in COMMANDS[name]:
        assert any(f"`{option}`" in line or f" {option}`" in line for line in tables), f"{name} {option}"


def test_policies_shown_are_valid(tmp_path: Path) -> None:
    shown = re.findall(r"```yaml\n(.*?)```", README, flags=re.DOTALL)
    assert shown
    for number, text in enumerate(shown):
        path = tmp_path / f"{number}.yaml"
        path.write_text(text)
        load(path)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_named_exist(document: str) -> None:
    text = (ROOT / document).read_text()
    named = set(re.findall(r"`((?:policies|proxy|tests|benchmarks|\.ci)/[\w./]+|[A-Z]+\.md|LICENSE)`", text))
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_targets_named_exist(document: str) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?:`|^    )make ([a-z-]+)", (ROOT / document).read_text(), flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_the_benchmark_has_its_place() -> None:
    assert README.index("<!-- bench:begin -->") < README.index("<!-- bench:end -->")
