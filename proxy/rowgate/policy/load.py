"""Reading a policy file: every mistake at once, or an immutable snapshot."""

from pathlib import Path as FilePath

from rowgate.policy.checks import check
from rowgate.policy.compilation import compiled
from rowgate.policy.document import MAX_OCTETS, Document, parse
from rowgate.policy.problem import Fault, PolicyError, Problem, dotted
from rowgate.policy.snapshot import Snapshot
from rowgate.policy.validation import draft, validate

__all__ = ["PolicyError", "Problem", "load", "read"]


def load(path: FilePath) -> Snapshot:
    """Return the policy in the file ``path``; raise ``PolicyError`` with every problem when there is any."""
    try:
        with path.open("rb") as file:
            octets = file.read(MAX_OCTETS + 1)
    except OSError as error:
        reason = f"a file that cannot be read: {error.strerror or type(error).__name__}"
        raise PolicyError([Problem(str(path), 0, 0, "", reason, "a policy file that this user may read")]) from error
    return read(octets, str(path))


def read(octets: bytes, source: str) -> Snapshot:
    """Return the policy in ``octets``, the content of the file ``source``; raise ``PolicyError`` as ``load`` does.

    Files that it names are looked for from the directory of ``source``; none of them is opened here.
    """
    document = parse(octets)
    data = document.data
    if not document.readable or not isinstance(data, dict):
        raise PolicyError(_problems(source, document, []))
    model, faults = validate(data)
    problems = _problems(source, document, [*faults, *check(draft(data))])
    if model is None or problems:
        raise PolicyError(problems)
    return compiled(model, source)


def _problems(source: str, document: Document, faults: list[Fault]) -> list[Problem]:
    """Return all faults with their places, in the order of the file, each once."""
    placed = [(place, fault) for fault, place in document.faults]
    placed += [(document.place(fault), fault) for fault in faults]
    problems = {
        Problem(source, place.line, place.column, dotted(fault.path), fault.found, fault.expected, fault.hint): None
        for place, fault in placed
    }
    return sorted(problems, key=lambda problem: (problem.line, problem.column))
