"""Whether the proxy's files are for the proxy alone."""

import shlex
import stat
from collections.abc import Iterator

from rowgate.doctor.facts import File, Setup
from rowgate.doctor.finding import Finding, Grade, Remedy


def judge(setup: Setup) -> Iterator[Finding]:
    """Find files that others may read or change."""
    for file in setup.files:
        if file.problem:
            remedy = Remedy("look as the account that runs the proxy, or mend the path")
            yield Finding(Grade.UNCHECKED, f"{file.purpose} {file.path}: {file.problem}", "nobody knows", remedy)
        else:
            yield from _access(file)
            yield from _owner(file, setup)


def _access(file: File) -> Iterator[Finding]:
    others_write = stat.S_IWGRP | stat.S_IWOTH
    forbidden = stat.S_IRWXG | stat.S_IRWXO if file.directory else others_write | stat.S_IROTH | stat.S_IXOTH
    if not file.secret:
        forbidden = others_write
    beyond = file.mode & forbidden
    if not beyond:
        return
    what = "change" if beyond & others_write else "read"
    mode = ("700" if file.directory else "600") if file.secret else "go-w"
    yield Finding(
        Grade.HOLE,
        f"{file.purpose} {file.path}: others may {what} it (mode {file.mode:04o})",
        "who changes it changes what the proxy does" if what == "change" else "what is in it is for the proxy alone",
        Remedy(commands=(f"chmod {mode} {shlex.quote(str(file.path))}",)),
    )


def _owner(file: File, setup: Setup) -> Iterator[Finding]:
    if file.owner not in {0, setup.user}:
        yield Finding(
            Grade.WARNING,
            f"{file.purpose} {file.path} belongs to another account (uid {file.owner}; this is {setup.user})",
            "its owner reads and changes it",
            Remedy(
                "unless that account runs the proxy: look as it then",
                commands=(f"chown {setup.user} {shlex.quote(str(file.path))}",),
            ),
        )
