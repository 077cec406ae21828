"""`rowgate policy`: check policy files before they go into force; write the schema that editors complete them from."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from rowgate.clock import SystemClock
from rowgate.policy.advice import advice
from rowgate.policy.load import PolicyError, Problem, load
from rowgate.policy.schema import schema_text
from rowgate.policy.snapshot import Snapshot

app = typer.Typer(name="policy", help="Check policy files; write their JSON Schema.", no_args_is_help=True)


@app.command()
def check(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Policy files.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of lines.")] = False,
) -> None:
    """Report every mistake in policy files at once; exit 1 when there is one."""
    reports = [_report(file) for file in files]
    if as_json:
        typer.echo(json.dumps({"files": reports}, ensure_ascii=False, indent=2))
    else:
        for report in reports:
            _print(report)
    if any(report["problems"] for report in reports):
        raise typer.Exit(1)


@app.command()
def schema() -> None:
    """Write the JSON Schema of the policy format to standard output."""
    typer.echo(schema_text(), nl=False)


def _report(file: Path) -> dict[str, Any]:
    try:
        policy = load(file)
    except PolicyError as error:
        return {"file": str(file), "valid": False, "problems": [asdict(problem) for problem in error.problems]}
    warnings = advice(policy, SystemClock().wall())
    return {"file": str(file), "valid": True, "problems": [], "warnings": warnings, **_summary(policy)}


def _summary(policy: Snapshot) -> dict[str, Any]:
    sections = ("clients", "limits", "statements", "entities", "exemptions", "issuers", "custody")
    counts = {section: len(getattr(policy, section)) for section in sections}
    unmatched = policy.unmatched_clients
    return {"version": policy.version, "mode": policy.mode.value, "unmatched_clients": unmatched, "counts": counts}


def _print(report: dict[str, Any]) -> None:
    for problem in report["problems"]:
        typer.echo(str(Problem(**problem)))
    if not report["valid"]:
        return
    for warning in report["warnings"]:
        typer.echo(f"{report['file']}: warning: {warning}")
    counts = ", ".join(f"{count} {section}" for section, count in report["counts"].items())
    unmatched = f"unmatched clients: {report['unmatched_clients']}"
    typer.echo(f"{report['file']}: valid, version {report['version']}, mode {report['mode']}, {unmatched}, {counts}")
