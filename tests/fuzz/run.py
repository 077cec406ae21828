"""Fuzz from the command line: ``python -m fuzz.run [TARGET …] [--runs N] [--seed S] [--compiled | --blind] [--keep]``.

Guided by coverage, of the pure sources or (``--compiled``, ten times as fast) of the compiled twins; ``--blind`` runs
whatever twin is installed. Writes findings below ``build/fuzz``; with ``--keep`` the inputs that reach anything new are
added to the kept ones. Ends with 1 on a finding.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from fuzz import native
from fuzz.blind import fuzz, resident
from fuzz.sources import ROOT, pure_copy
from fuzz.targets import TARGETS, Target

BUILD: Final = ROOT / "build" / "fuzz"
# Seconds for one execution, and MiB for the whole process: a hang and a leak are findings.
TIMEOUT: Final = 30
MEMORY: Final = 1_024
# libFuzzer's exit codes: an exception nobody catches, an execution that takes too long, more memory than allowed.
FOUND: Final = 77
OUTCOMES: Final = {0: "nothing found", FOUND: "FOUND SOMETHING", 70: "FOUND A HANG", 71: "FOUND A LEAK"}


def main() -> int:
    """Fuzz each target in turn; return 1 if anything was found, or stopped a fuzzer."""
    parser = argparse.ArgumentParser(prog="fuzz.run", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("targets", nargs="*", help="default: all")
    parser.add_argument("--runs", type=int, default=2_000_000, help="executions of each target (default: 2000000)")
    parser.add_argument("--seed", type=int, default=1, help="1, 2, …: another order of inputs")
    parser.add_argument("--compiled", action="store_true", help="guided on the compiled twins; needs clang")
    parser.add_argument(
        "--blind", action="store_true", help="without coverage, on the compiled twins where there are any"
    )
    parser.add_argument("--keep", action="store_true", help="add inputs that reach anything new to the kept ones")
    options = parser.parse_args()
    sources = None if options.blind else native.build() if options.compiled else pure_copy(BUILD / "sources")
    failed = False
    for name in options.targets or TARGETS:
        begun = time.monotonic()
        if sources is None:
            code = _blind(TARGETS[name], options.runs, options.seed)
        else:
            code = guided(TARGETS[name], options.runs, options.seed, sources, BUILD)
        outcome = OUTCOMES.get(code, f"stopped with code {code}")
        print(f"{name}: {outcome}, {time.monotonic() - begun:.0f} s", flush=True)
        failed = failed or code != 0
        if options.keep and not code and sources is not None:
            keep(TARGETS[name], sources, BUILD)
    return 1 if failed else 0


def _blind(target: Target, runs: int, seed: int) -> int:
    finding = fuzz(target, runs, seed)
    print(f"{target.name}: {runs} executions, seed {seed}, {resident() >> 20} MiB", flush=True)
    if finding is None:
        return 0
    print(f"{finding.what}\n{target.name}: {finding.data.hex()}", flush=True)
    return FOUND


def guided(  # noqa: PLR0917 - all of it is given
    target: Target,
    runs: int,
    seed: int,
    sources: Path,
    build: Path,
    quiet: bool = False,
) -> int:
    """Fuzz guided by coverage, from the kept inputs on; return the fuzzer's exit code, 0 if nothing was found."""
    inputs, findings, fresh = (
        build / "inputs" / target.name,
        build / "findings" / target.name,
        build / "new" / target.name,
    )
    for folder in (inputs, findings, fresh):
        folder.mkdir(parents=True, exist_ok=True)
    for data in target.inputs():
        (inputs / hashlib.sha256(data).hexdigest()[:20]).write_bytes(data)
    return run(
        target,
        sources,
        f"-runs={runs}",
        f"-seed={seed}",
        f"-max_len={target.longest}",
        f"-timeout={TIMEOUT}",
        f"-rss_limit_mb={MEMORY}",
        f"-artifact_prefix={findings}/",
        "-print_final_stats=1",
        str(fresh),
        str(inputs),
        quiet=quiet,
    )


def keep(target: Target, sources: Path, build: Path) -> None:
    """Add to the kept inputs the fewest of the new ones that reach what those do not."""
    chosen = build / "chosen" / target.name
    chosen.mkdir(parents=True, exist_ok=True)
    for data in target.inputs():
        (chosen / hashlib.sha256(data).hexdigest()[:20]).write_bytes(data)
    before = {path.read_bytes() for path in chosen.iterdir()}
    again = build / "again"
    again.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m fuzz.guided {target.name} "$@"\n')
    again.chmod(0o700)
    os.environ["FUZZ_COMMAND"] = str(again)
    run(
        target,
        sources,
        "-merge=1",
        f"-max_len={target.longest}",
        str(chosen),
        str(build / "new" / target.name),
    )
    added = sorted((path.read_bytes() for path in chosen.iterdir()), key=lambda data: (len(data), data))
    with target.kept.open("a") as kept:
        kept.writelines(f"{data.hex()}\n" for data in added if data not in before)


def run(target: Target, sources: Path, *options: str, quiet: bool = False) -> int:
    """Run atheris on the sources, with options of libFuzzer's; return its exit code."""
    path = os.pathsep.join((str(sources), str(ROOT / "tests")))
    environment = {name: value for name, value in os.environ.items() if name != "ROWGATE_PURE"}
    if native.BUILD in sources.parents:
        environment["FUZZ_LIBRARY"] = str(native.LIBRARY)
    command = [sys.executable, "-m", "fuzz.guided", target.name, *options]
    output = subprocess.DEVNULL if quiet else None
    return subprocess.run(
        command, env={**environment, "PYTHONPATH": path}, stdout=output, stderr=output, check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
