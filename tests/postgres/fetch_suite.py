"""Get PostgreSQL's own tests as Debian's source package holds them, and build what of them is C.

``python tests/postgres/fetch_suite.py DIRECTORY`` (``make postgres-tests`` runs it) asks the machine's own Debian
mirror: apt reads a private copy of its sources, with source packages added, and keeps its lists apart; nothing is
installed. The version is the installed server's, or else the newest one the mirror still has: direct and proxied runs
are compared with each other, so they may be a minor release away from the server.
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

SOURCE: Final = "postgresql-15"
HEADERS: Final = ("postgresql-server-dev-15", "libpq-dev")
SERVER: Final = Path("/usr/lib/postgresql/15")
APT: Final = Path("/etc/apt")
# What is taken from the source package.
WANTED: Final = ("src/test/regress/", "src/test/modules/libpq_pipeline/")
# Modules that the regression tests load besides their own; Debian ships them built.
BORROWED: Final = ("autoinc.so", "refint.so")


class SuiteUnavailableError(Exception):
    """The tests cannot be had here; the message says why, and what would help."""


def with_source_packages(name: str, text: str) -> str:
    """Return one file of apt's sources with the source packages of every archive added (sources.list(5))."""
    if name.endswith(".sources"):
        return re.sub(r"^Types:.*$", "Types: deb deb-src", text, flags=re.MULTILINE)
    return "".join(
        f"{line}\n" + (f"deb-src{line.removeprefix('deb')}\n" if re.match(r"deb[ \t]", line) else "")
        for line in text.splitlines()
    )


class Apt:
    """apt with sources and lists of its own under ``directory``."""

    def __init__(self, directory: Path) -> None:
        parts = directory / "sources"
        for folder in (parts, directory / "lists/partial", directory / "cache/archives/partial"):
            folder.mkdir(parents=True)
        files = [APT / "sources.list", *sorted((APT / "sources.list.d").glob("*"))]
        for number, file in enumerate(files):
            if file.suffix in {".list", ".sources"} and file.is_file():
                (parts / f"{number}{file.suffix}").write_text(with_source_packages(file.name, file.read_text()))
        self._options = (
            *("-o", "Dir::Etc::SourceList=/dev/null", "-o", f"Dir::Etc::SourceParts={parts}"),
            *("-o", f"Dir::State::Lists={directory / 'lists'}", "-o", f"Dir::Cache={directory / 'cache'}"),
            *("-o", f"APT::Sandbox::User={'root' if os.geteuid() == 0 else ''}", "-q"),
        )

    def run(self, program: str, *arguments: str, folder: Path | None = None) -> tuple[bool, str]:
        """Run apt-get or apt-cache; return whether it succeeded, and what it said."""
        done = subprocess.run(
            [program, *self._options, *arguments], cwd=folder, capture_output=True, text=True, check=False
        )
        return done.returncode == 0, done.stdout + done.stderr

    def get(self, verb: Iterable[str], package: str, versions: Iterable[str], folder: Path) -> str:
        """Download the first of ``versions`` that can be had; return it.

        Raises SuiteUnavailableError when none can: a mirror may list a version whose files it does not hold.
        """
        said = "no version is listed"
        for version in versions:
            done, said = self.run("apt-get", *verb, f"{package}={version}", folder=folder)
            if done:
                return version
        raise SuiteUnavailableError(f"apt cannot get {package} ({said.strip().splitlines()[-1]})")

    def versions(self, command: str, package: str) -> list[str]:
        """Return the versions that the mirror lists, the installed server's first, then the newest."""
        _, shown = self.run("apt-cache", command, package)
        listed = re.findall(r"^Version: (\S+)$", shown, flags=re.MULTILINE)
        installed = subprocess.run(
            ["dpkg-query", "-W", "-f", "${Version}", SOURCE], capture_output=True, text=True, check=False
        ).stdout
        return sorted(dict.fromkeys(listed), key=lambda version: (version != installed, -listed.index(version)))


def unpack(archive: Path, target: Path) -> None:
    """Write the wanted files of a source archive (apt has checked it against the archive's signature)."""
    with tarfile.open(archive) as members:
        for member in members:
            path = member.name.partition("/")[2]
            content = members.extractfile(member) if member.isfile() and path.startswith(WANTED) else None
            if content is not None and ".." not in Path(path).parts:
                (target / path).parent.mkdir(parents=True, exist_ok=True)
                (target / path).write_bytes(content.read())


def build(source: Path, headers: Path, target: Path) -> None:
    """Compile the server module that the regression tests load, and the client of the pipeline tests."""
    include = headers / "usr/include/postgresql"
    library = headers / "usr/lib/postgresql/15/lib"
    flags = ("-O1", "-w", f"-I{include / '15/server'}", f"-I{include}", f"-I{include / 'internal'}")
    compiler = os.environ.get("CC", "gcc")
    module = ["-fPIC", "-shared", "-o", f"{target}/regress.so", f"{source}/{WANTED[0]}regress.c"]
    client = [
        *("-o", f"{target}/libpq_pipeline", f"{source}/{WANTED[1]}libpq_pipeline.c"),
        *(f"-L{library}", "-lpgcommon", "-lpgport", "-l:libpq.so.5"),
    ]
    for arguments in (module, client):
        subprocess.run([compiler, *flags, *arguments], check=True)
    for name in BORROWED:
        shutil.copy(SERVER / "lib" / name, target)


def fetch(target: Path) -> str:
    """Put the tests into ``target``, ready to run; return their version.

    Raises SuiteUnavailableError, and CalledProcessError when they do not compile.
    """
    if not (SERVER / "bin/postgres").exists() or shutil.which("apt-get") is None:
        raise SuiteUnavailableError(f"they need Debian, and its package {SOURCE} installed")
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="rg-apt-") as name:
        work = Path(name)
        apt = Apt(work)
        apt.run("apt-get", "update")  # an archive without source packages is no failure: what is missing shows below
        version = apt.get(("source", "--download-only"), SOURCE, apt.versions("showsrc", SOURCE), work)
        for package in HEADERS:
            apt.get(("download",), package, apt.versions("show", package), work)
        for package_file in sorted(work.glob("*.deb")):
            subprocess.run(["dpkg-deb", "-x", package_file, work / "headers"], check=True)
        (archive,) = work.glob("*.orig.tar.*[!c]")
        unpack(archive, target)
        build(target, work / "headers", target)
    (target / "version").write_text(f"{version}\n")
    return version


def main() -> None:
    """Fetch into the directory named by the first argument."""
    try:
        version = fetch(Path(sys.argv[1]).absolute())
    except (SuiteUnavailableError, subprocess.CalledProcessError, OSError) as problem:
        sys.exit(f"PostgreSQL's own tests cannot be had: {problem}")
    sys.stdout.write(f"PostgreSQL's own tests, {SOURCE} {version}\n")


if __name__ == "__main__":
    main()
