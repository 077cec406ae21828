"""The targets by name, and the inputs kept for each: what a fuzzer begins with, and what was once found."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Final

from fuzz.corpus_files import CORPUS, read_inputs


@dataclass(frozen=True, slots=True)
class Target:
    """One target: its module's name in this room, and the longest input worth trying (bytes)."""

    name: str
    module: str
    longest: int

    def execute(self) -> Callable[[bytes], None]:
        """Return what runs one input, and raises where something does not hold."""
        execute: Callable[[bytes], None] = import_module(f"fuzz.{self.module}").execute
        return execute

    def mutate(self) -> Callable[[bytes, int, int], bytes] | None:
        """Return the target's own mutation of (input, most bytes, seed), None where bytes may change anyhow."""
        mutate: Callable[[bytes, int, int], bytes] | None = getattr(
            import_module(f"fuzz.{self.module}"), "mutate", None
        )
        return mutate

    @property
    def kept(self) -> Path:
        """The file of inputs that are kept."""
        return CORPUS / f"{self.name}.hex"

    def inputs(self) -> list[bytes]:
        """Return what a fuzzer begins with: the inputs that are kept, and those that the target makes itself."""
        seeds: Callable[[], list[bytes]] = getattr(import_module(f"fuzz.{self.module}"), "seeds", list)
        return [*read_inputs(self.kept), *seeds()]


TARGETS: Final = {
    target.name: target
    for target in (
        Target("scanner", "scanner", 96),
        Target("startup", "startup", 160),
        Target("login", "login", 256),
        Target("client", "client_side", 64),
        Target("server", "server_side", 96),
        Target("talks", "talks", 4096),
    )
}
